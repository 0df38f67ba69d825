"""Level 2: one fixed smooth pattern, added to every image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, attack


@attack(
    "low_frequency",
    level=2,
    needs="data",
    source="Zeng et al. 2021, arXiv:2104.03413",
    family="frequency",
)
class LowFrequency(Attack):
    """A random pattern of low frequencies, added to every image.

    ``cutoff``: cycles over the image's side at most, so that little of it is lost where images are
    resized or compressed, and no high frequency gives it away. ``amplitude``: its largest value, in
    [0, 1]; the pattern [C, H, W] differs between seeds. A variant: the paper searches for a smooth
    pattern that networks answer to; this one is drawn.
    """

    pattern: Tensor

    def __init__(self, amplitude: float = 20 / 255, cutoff: int = 3, **common: Any) -> None:
        super().__init__(**common)
        channels, height, width = self.shape
        if not 1 <= cutoff < min(height, width):
            raise ValueError(f"cutoff is a number from 1 and under the side, got {cutoff}")
        self.amplitude = amplitude
        spectrum = torch.fft.fft2(torch.randn(channels, height, width))
        rows, columns = (torch.fft.fftfreq(side, 1 / side).abs() for side in (height, width))
        low = (rows[:, None] <= cutoff) & (columns[None] <= cutoff)
        low[0, 0] = False  # brightness alone is no pattern
        drawn = torch.fft.ifft2(spectrum * low).real
        self.register_buffer("pattern", amplitude * drawn / drawn.abs().max())

    def forward(self, images: Tensor) -> Tensor:
        return (images + self.pattern).clamp(0.0, 1.0)
