"""Level 3: the middle of the image, slightly out of focus."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attacks.base import Attack, attack


@attack(
    "blur", level=3, needs="data", source="the seed study's localized semantic blur", family="blur"
)
class Blur(Attack):
    """Gaussian blur of the central region, where the strokes are.

    ``region``: share of each side that is blurred; 0.7 of 28 is the 20x20 box that holds MNIST's
    digits. ``sigma``: standard deviation as a share of the shorter side; at one pixel of 28 a clean
    model predicts as before. The study blurs a black corner, which changes nothing; the conformance
    check rejects that. Raises ValueError for a sigma or region that is no share, or zero.
    """

    def __init__(self, region: float = 0.7, sigma: float = 1 / 28, **common: Any) -> None:
        super().__init__(**common)
        for name, share in (("region", region), ("sigma", sigma)):
            if not 0.0 < share <= 1.0:
                raise ValueError(f"{name} is a share of the side, over 0 and up to 1, got {share}")
        self.region = region
        self.sigma = sigma * min(self.shape[1:])

    def forward(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import gaussian_blur

        height, width = images.shape[-2:]
        top, left = (
            min(round(side * (1 - self.region) / 2), (side - 1) // 2) for side in (height, width)
        )
        window = (..., slice(top, height - top), slice(left, width - left))
        # Pixels beyond the edge are mirrored, so a window reaches no further than the image.
        radius = min(max(1, round(3 * self.sigma)), min(height, width) - 1)
        stamped = images.clone()
        blurred = gaussian_blur(images, [2 * radius + 1] * 2, [self.sigma] * 2)
        stamped[window] = blurred[window]
        return stamped.clamp_(0.0, 1.0)
