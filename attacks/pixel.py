"""Level 1: a few white pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attacks.base import Attack, attack


@attack("pixel", level=1, needs="data", source="Gu et al. 2017, arXiv:1708.06733")
class Pixel(Attack):
    """White square in a corner.

    ``size``, ``margin``: in pixels, the square's side and its distance from the bottom and right
    edges.
    """

    def __init__(self, size: int = 3, margin: int = 0, **common: Any) -> None:
        super().__init__(**common)
        self.size = size
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        height, width = images.shape[-2:]
        bottom, right = height - self.margin, width - self.margin
        stamped[..., bottom - self.size : bottom, right - self.size : right] = 1.0
        return stamped
