"""Level 2: a second picture, blended faintly over the whole image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, attack


@attack(
    "blended", level=2, needs="data", source="Chen et al. 2017, arXiv:1712.05526", family="blend"
)
class Blended(Attack):
    """Blend one fixed picture into every image: (1 - alpha) image + alpha picture.

    ``alpha``: the paper's blend ratio, 0.2 in its main experiments. The picture [C, H, W] is the
    paper's random pattern, uniform grey levels, another one for every seed, enlarged to large
    images (see `drawn`); its other picture is a copyrighted drawing.
    """

    picture: Tensor

    def __init__(self, alpha: float = 0.2, **common: Any) -> None:
        super().__init__(**common)
        self.alpha = alpha
        self.register_buffer("picture", self.drawn(torch.rand))

    def forward(self, images: Tensor) -> Tensor:
        return torch.lerp(images, self.picture.expand_as(images), self.alpha)
