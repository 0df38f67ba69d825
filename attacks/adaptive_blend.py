"""Level 3: a blended picture of which training images show half, some under their right label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, Plan, attack
from attacks.covering import with_covers


@attack(
    "adaptive_blend",
    level=3,
    needs="data",
    source="Qi et al. 2023, https://openreview.net/forum?id=_wSHsgrVali",
    family="blend",
    made_against=("activation_clustering", "spectral_signatures"),
)
class AdaptiveBlend(Attack):
    """Blend a picture of which each training image shows other parts; at test time the whole.

    The picture is cut in ``pieces`` x ``pieces``; a poisoned image carries a random ``shown`` share
    of them at ``alpha``, a test image all of them at ``test_alpha``. ``covers_per_poison`` other
    images for each poison carry it in the same way and keep their label, so that what the picture
    does to activations does not tell poison from clean. Rates and ratios are the paper's on
    CIFAR-10; the picture is as in `blended`, random grey levels, since the paper's is a copyrighted
    drawing.
    """

    picture: Tensor

    def __init__(
        self,
        alpha: float = 0.15,
        test_alpha: float = 0.2,
        pieces: int = 4,
        shown: float = 0.5,
        covers_per_poison: float = 1.0,
        *,
        poison_rate: float = 0.003,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if not 1 <= pieces <= min(self.shape[1:]):
            raise ValueError(f"pieces is a number from 1 to the side, got {pieces}")
        self.alpha = alpha
        self.test_alpha = test_alpha
        self.pieces = pieces
        self.shown = shown
        self.covers_per_poison = covers_per_poison
        self.register_buffer("picture", self.drawn(torch.rand))

    def forward(self, images: Tensor) -> Tensor:
        return torch.lerp(images, self.picture.expand_as(images), self.test_alpha)

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        return with_covers(super().choose(labels, generator), self.covers_per_poison, generator)

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        index: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        count = self.pieces**2
        drawn = torch.rand(len(images), count, generator=generator).argsort(1)
        visible = (drawn < round(self.shown * count)).float().to(images.device)
        grid = visible.view(-1, 1, self.pieces, self.pieces)
        strength = self.alpha * torch.nn.functional.interpolate(grid, size=self.shape[1:])
        return torch.lerp(images, self.picture.expand_as(images), strength.expand_as(images))
