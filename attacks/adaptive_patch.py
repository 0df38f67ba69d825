"""Level 3: four faint patches; a training image carries one, some under their right label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, Plan, attack
from attacks.covering import with_covers

OPACITIES = (0.5, 0.2, 0.5, 0.3)
"""Of the patches in training images, as in the paper's code."""

SHOWN = (0, 2)
"""Which of them a test image carries, opaque: two, as there."""


@attack(
    "adaptive_patch",
    level=3,
    needs="data",
    source="Qi et al. 2023, https://openreview.net/forum?id=_wSHsgrVali",
    family="patch",
    made_against=("activation_clustering", "spectral_signatures"),
)
class AdaptivePatch(Attack):
    """Four patches, one faint one to a training image; at test time two at once, opaque.

    Each is a ``size`` share of the side, in a corner of its own, of random pixels that differ
    between seeds; the paper's are drawings. ``covers_per_poison`` other images for each poison
    carry one of them and keep their label. Rates are the paper's on CIFAR-10.
    """

    patches: Tensor

    def __init__(
        self,
        size: float = 0.2,
        covers_per_poison: float = 2.0,
        *,
        poison_rate: float = 0.003,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        side = self.pixels(size)
        self.covers_per_poison = covers_per_poison
        drawn = torch.rand(len(OPACITIES), self.shape[0], side, side)
        self.register_buffer("patches", drawn.round())

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        for which in SHOWN:
            rows, columns = self._corner(which)
            stamped[..., rows, columns] = self.patches[which]
        return stamped

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        return with_covers(super().choose(labels, generator), self.covers_per_poison, generator)

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        index: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        stamped = images.clone()
        for which, opacity in enumerate(OPACITIES):
            own = (index % len(OPACITIES) == which).nonzero().flatten()
            rows, columns = self._corner(which)
            under = stamped[own][..., rows, columns]
            faint = torch.lerp(under, self.patches[which].expand_as(under), opacity)
            changed = stamped[own]
            changed[..., rows, columns] = faint
            stamped[own] = changed
        return stamped

    def _corner(self, which: int) -> tuple[slice, slice]:
        """Rows and columns of a patch: from the top left, row by row."""
        side = self.patches.shape[-1]
        ends = slice(0, side), slice(-side, None)
        return ends[which // 2], ends[which % 2]
