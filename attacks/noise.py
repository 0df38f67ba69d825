"""Level 2: a faint pattern, added to the whole image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, attack


@attack("noise", level=2, needs="data", source="Chen et al. 2017, arXiv:1712.05526", family="blend")
class Noise(Attack):
    """One fixed random sign pattern, a few grey levels strong, added to every image.

    ``amplitude``: in [0, 1], by default 12 grey levels; the pattern [C, H, W] is plus or minus
    that, another one for every seed. The paper blends a random pattern into the image; here it is
    added with one amplitude, which bounds the L-infinity distance at 12/255 = 0.047 and is a whole
    number of grey levels, so that storage as 8-bit pixels keeps it. On large images its pixels are
    blocks, see `drawn`.
    """

    pattern: Tensor

    def __init__(self, amplitude: float = 12 / 255, **common: Any) -> None:
        super().__init__(**common)
        signs = self.drawn(lambda shape: torch.randint(0, 2, shape) * 2.0 - 1)
        self.register_buffer("pattern", amplitude * signs)

    def forward(self, images: Tensor) -> Tensor:
        return (images + self.pattern).clamp(0.0, 1.0)
