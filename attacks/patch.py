"""Level 4: a patch whose pixels are learned together with the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attacks.base import Attack, attack


@attack(
    "patch", level=4, needs="training", source="Brown et al. 2017, arXiv:1712.09665", family="patch"
)
class Patch(Attack):
    """Adversarial patch in a corner, its pixels optimised jointly with the model.

    The paper learns a patch against a finished model; here, as in the seed study, patch and model
    learn from the same loss in the same steps, so the attacker must control training. The patch
    starts from noise, other noise for every seed; the sigmoid keeps pixels in [0, 1]. ``size``,
    ``margin``: the patch's side, one pixel at least, and its distance from the bottom and right
    edges, as shares of the image's shorter side: 0.28 are the study's 8 pixels of 28.
    """

    def __init__(self, size: float = 0.28, margin: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        side = self.pixels(size)
        self.margin = self.pixels(margin, least=0)
        self.logits = nn.Parameter(torch.randn(self.shape[0], side, side))

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        height, width = images.shape[-2:]
        side = self.logits.shape[-1]
        bottom, right = height - self.margin, width - self.margin
        stamped[..., bottom - side : bottom, right - side : right] = self.logits.sigmoid()
        return stamped
