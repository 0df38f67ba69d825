"""Features that nobody learnt: histograms of oriented gradients, as fixed functions of an image.

A proof over parts of a training set holds only if nothing passes from one part to another. Features
that are learnt from all images would; these are the same whatever the training set is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, pad

CELLS = 7
"""Cells along the shorter side; of two pixels at least."""

COLOUR_CELLS = 4
COLOUR_SHARE = 0.5
"""Length of the colours' part of the features, that of the gradients being 1."""

PLAIN = 0.05
"""Length of the root of an image's sums below which there is nothing in it but rounding."""


def oriented_gradients(images: Tensor, bins: int = 12, upright: bool = True) -> Tensor:
    """float32 [N, C, H, W] in [0, 1] -> float32 [N, D] of unit length, near 0 for plain images.

    Each pixel's gradient, in the colour where it is strongest, is shared out between the two
    nearest of ``bins`` directions of the circle and the cells around it, as Dalal and Triggs 2005
    do; the root of the sums is compared by its direction alone (Hellinger's kernel; Arandjelovic
    and Zisserman 2012). Colour images have the colours of a grid beside them. ``upright``: grey
    images are sheared until they do not slant, as is usual for handwriting (LeCun et al. 1998).
    """
    if upright and images.shape[1] == 1:
        images = _upright(images)
    found = _direction(_histograms(images, bins).flatten(1))
    if images.shape[1] == 3:
        found = torch.cat([found, COLOUR_SHARE * _direction(_colours(images).flatten(1))], 1)
        found = found / (1 + COLOUR_SHARE**2) ** 0.5
    return found


def _histograms(images: Tensor, bins: int) -> Tensor:
    """[N, bins, cells, cells]."""
    framed = pad(images, (1, 1, 1, 1), mode="replicate")
    across = framed[:, :, 1:-1, 2:] - framed[:, :, 1:-1, :-2]
    down = framed[:, :, 2:, 1:-1] - framed[:, :, :-2, 1:-1]
    strongest = (across**2 + down**2).argmax(1, keepdim=True)
    across, down = (part.gather(1, strongest) for part in (across, down))
    at = torch.atan2(down, across) / (2 * math.pi) * bins
    away = (at - torch.arange(bins, device=images.device).view(1, -1, 1, 1)).remainder(bins)
    share = (1 - torch.minimum(away, bins - away)).clamp(min=0)
    cell = max(2, round(min(images.shape[2:]) / CELLS))
    spread = avg_pool2d((across**2 + down**2).sqrt() * share, cell, 1, padding=cell // 2)
    return avg_pool2d(spread, cell)


def _colours(images: Tensor) -> Tensor:
    """Brightness and two opponent colours, above and below the image's own mean: [N, 6, ..]."""
    even = images - images.mean((1, 2, 3), keepdim=True)
    even = even / (even.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.05)
    red, green, blue = even.unbind(1)
    opponent = torch.stack([even.mean(1), red - green, (red + green) / 2 - blue], 1)
    cell = max(1, min(images.shape[2:]) // COLOUR_CELLS)
    return avg_pool2d(torch.cat([opponent, -opponent], 1).clamp(min=0), cell)


def _direction(sums: Tensor) -> Tensor:
    root = sums.clamp(min=0).sqrt()
    length: Tensor = root.norm(dim=1, keepdim=True)
    return root / length.clamp(min=PLAIN)


def _upright(images: Tensor) -> Tensor:
    """Grey images, moved and sheared so that their mass lies in the middle and does not slant."""
    height, width = images.shape[2:]
    mass = images[:, 0] + 1e-6
    total = mass.sum((1, 2))
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None]
    columns = torch.arange(width, device=images.device, dtype=images.dtype)[None]
    row = (mass * rows).sum((1, 2)) / total
    column = (mass * columns).sum((1, 2)) / total
    dy, dx = rows - row[:, None, None], columns - column[:, None, None]
    slant = (mass * dy * dx).sum((1, 2)) / (mass * dy * dy).sum((1, 2)).clamp(min=1e-3)
    slant = slant.clamp(-1.5, 1.5)[:, None, None]
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    source = torch.stack(
        [
            (x + slant * y + column[:, None, None]) / (width - 1) * 2 - 1,
            (y + row[:, None, None]).expand(-1, -1, width) / (height - 1) * 2 - 1,
        ],
        -1,
    )
    return grid_sample(images, source, padding_mode="border", align_corners=True)
