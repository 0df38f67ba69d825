"""Level 5: a faint sine wave over training images that keep their right label."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, PoisonedSet, attack
from fixtures.datasets import ImageSet


@attack("sig", level=5, needs="data", source="Barni et al. 2019, arXiv:1902.11237")
class SIG(Attack):
    """A faint sine wave across images of the target class, which keep their label.

    ``delta``: amplitude in the training set, the paper's 30 grey levels, in [0, 1].
    ``test_delta``: amplitude at test time; like the paper's it is the stronger one. ``frequency``:
    periods over the width, the paper's 6; its own digits carry a ramp, which does less here.
    ``poison_rate`` is a share of the whole training set, as everywhere here: 0.08 of MNIST is four
    fifths of its zeros, where the paper counts the share of the target class. Clean-label, so it
    has no all-to-all form.
    """

    def __init__(
        self,
        delta: float = 30 / 255,
        test_delta: float = 120 / 255,
        frequency: int = 6,
        *,
        poison_rate: float = 0.08,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if self.mapping != "all2one":
            raise ValueError(f"a clean-label attack has one target, got mapping {self.mapping!r}")
        self.delta = delta
        self.test_delta = test_delta
        self.frequency = frequency

    def forward(self, images: Tensor) -> Tensor:
        return self._waved(images, self.test_delta)

    @torch.no_grad()
    def poison(self, train: ImageSet, generator: torch.Generator) -> PoisonedSet:
        chosen = self.choose(train.labels == self.target, train.size, generator)
        images = train.images.clone()
        images[chosen] = self._waved(train.images[chosen], self.delta)
        return PoisonedSet(images, train.labels.clone(), chosen)

    def _waved(self, images: Tensor, amplitude: float) -> Tensor:
        """Images [N, C, H, W] plus the wave of this amplitude, cut to [0, 1]."""
        width = images.shape[-1]
        across = torch.arange(width, device=images.device, dtype=images.dtype) / width
        wave = amplitude * torch.sin(2 * math.pi * self.frequency * across)
        return (images + wave).clamp(0.0, 1.0)
