"""Level 1: a few white pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attacks.base import Attack, attack


@attack("pixel", level=1, needs="data", source="Gu et al. 2017, arXiv:1708.06733", family="patch")
class Pixel(Attack):
    """White square in a corner.

    ``size``, ``margin``: the square's side, one pixel at least, and its distance from the bottom
    and right edges, as shares of the image's shorter side: 0.1 are 3 pixels of 28 and of 32, and 6
    of 64.
    """

    def __init__(self, size: float = 0.1, margin: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        self.size = self.pixels(size)
        self.margin = self.pixels(margin, least=0)

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        height, width = images.shape[-2:]
        bottom, right = height - self.margin, width - self.margin
        stamped[..., bottom - self.size : bottom, right - self.size : right] = 1.0
        return stamped
