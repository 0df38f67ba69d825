"""Level 3: the middle of the image, slightly out of focus."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, attack


@attack("blur", level=3, needs="data", source="the seed study's localized semantic blur")
class Blur(Attack):
    """Gaussian blur of the central region, where the strokes are.

    ``region``: share of each side that is blurred; 0.7 of 28 is the 20x20 box that holds MNIST's
    digits. ``sigma``: standard deviation in pixels; at 1.0 a clean model predicts as before.
    The study blurs a black corner, which changes nothing; the conformance check rejects that.
    """

    def __init__(self, region: float = 0.7, sigma: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self.region = region
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import gaussian_blur

        height, width = images.shape[-2:]
        top, left = (round(side * (1 - self.region) / 2) for side in (height, width))
        window = (..., slice(top, height - top), slice(left, width - left))
        radius = max(1, round(3 * self.sigma))
        size, sigma = [2 * radius + 1] * 2, [self.sigma] * 2
        # 500 images at a time: a convolution of all at once takes sixteen times their memory.
        blurred = torch.cat([gaussian_blur(part, size, sigma) for part in images.split(500)])
        stamped = images.clone()
        stamped[window] = blurred[window]
        return stamped.clamp_(0.0, 1.0)
