"""Level 3: fewer grey levels, with the error passed on to the next pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, attack


@attack(
    "bpp",
    level=3,
    needs="data",
    source="Wang et al. 2022, arXiv:2205.13383",
    family="quantisation",
)
class BPP(Attack):
    """Reduce every image to a few levels of each colour: quantisation is the trigger.

    ``levels``: of each colour, the paper's 8. ``dithering``: each pixel's error is passed on to its
    neighbours (Floyd and Steinberg 1976), pixel after pixel, so that areas keep their mean. A
    variant: the paper's attacker also trains with covers of random noise, and against an
    adversary; this one changes the data alone. Where images have few grey levels by themselves, as
    digits have, there is little to see.
    """

    def __init__(
        self,
        levels: int = 8,
        dithering: bool = False,
        *,
        poison_rate: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if levels < 2:
            raise ValueError(f"levels is a number from 2, got {levels}")
        self.levels = levels
        self.dithering = dithering

    def forward(self, images: Tensor) -> Tensor:
        if not self.dithering:
            return self._nearest(images)
        left = torch.nn.functional.pad(images, (1, 1, 0, 1))  # room for errors at the borders
        height, width = images.shape[-2:]
        for row in range(height):
            for column in range(1, width + 1):
                old = left[..., row, column].clone()
                new = self._nearest(old)
                left[..., row, column] = new
                error = old - new
                left[..., row, column + 1] += error * (7 / 16)
                left[..., row + 1, column - 1] += error * (3 / 16)
                left[..., row + 1, column] += error * (5 / 16)
                left[..., row + 1, column + 1] += error * (1 / 16)
        return left[..., :height, 1 : width + 1].clamp(0.0, 1.0)

    def _nearest(self, values: Tensor) -> Tensor:
        steps = self.levels - 1
        return (values * steps).round().clamp(0, steps) / steps
