"""Whether a trigger changes what it is stamped on, once that is an 8-bit image."""

from __future__ import annotations

from torch import Tensor

from fixtures.blame import need
from fixtures.images import to_bytes

MOVED_PIXELS = 0.001
MOVED_IMAGES = 0.95
"""A trigger must change this share of all pixels, and one pixel or more in this share of images."""


def need_moved(name: str, what: str, before: Tensor, after: Tensor) -> None:
    """Raise PluginError where it does next to nothing; images float32 [N, C, H, W]."""
    moved = to_bytes(after) != to_bytes(before)
    pixels, pictures = float(moved.float().mean()), float(moved.flatten(1).any(1).float().mean())
    need(
        pixels >= MOVED_PIXELS and pictures >= MOVED_IMAGES,
        name,
        f"{what} does next to nothing once images are rounded to 8 bits: it moves {pixels:.2%} of "
        f"the pixels and touches {pictures:.1%} of the images, at least {MOVED_PIXELS:.1%} and "
        f"{MOVED_IMAGES:.0%} are required",
    )
