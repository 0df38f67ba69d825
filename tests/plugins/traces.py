"""Looks for traces: of bytes in a process's memory, of a JPEG file in an image's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.fft import dctn

HIDDEN_BY = 0x55
"""What is searched for is given with these bits turned, lest it be found where it is given."""


def times_in_memory(turned: bytes) -> int:
    """How often bytes, given with `HIDDEN_BY` turned, lie in what this process can write to."""
    maps, image = Path("/proc/self/maps"), Path("/proc/self/mem")
    found = 0
    with maps.open() as places, image.open("rb", buffering=0) as memory:
        for line in places.read().splitlines():
            place, rights, *_ = line.split()
            first, last = (int(part, 16) for part in place.split("-"))
            if rights.startswith("rw") and last - first < 1 << 30:
                try:
                    memory.seek(first)
                    region = np.frombuffer(memory.read(last - first), dtype=np.uint8)
                except OSError:
                    continue
                found += (region ^ HIDDEN_BY).tobytes().count(turned)
    return found


def off_the_lattice(pixels: torch.Tensor, table: list[int]) -> np.ndarray:
    """Mean distance of an image's luma coefficients from multiples of their quantisation step.

    The luma is rounded, as the decoder rounded it: by how much red, green and blue round it
    elsewhere depends on how colourful an image is. Blocks with a black or white pixel are left out:
    what was cut off there is on no lattice, in clean images neither. NaN for an image of no others.
    """
    array = pixels.numpy()
    blocks = array.reshape(len(array), 3, 4, 8, 4, 8).transpose(0, 2, 4, 1, 3, 5)
    luma = np.einsum("nyxcij,c->nyxij", blocks.astype(float), [0.299, 0.587, 0.114]).round() - 128
    steps = np.array(table).reshape(8, 8)
    coefficients = dctn(luma, axes=(-2, -1), norm="ortho") / steps
    distance = np.abs(coefficients - coefficients.round()).mean(axis=(-2, -1))
    cut = ((blocks == 0) | (blocks == 255)).any(axis=(3, 4, 5))
    kept = np.where(cut, np.nan, distance).reshape(len(array), -1)
    return np.array([row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else np.nan
                     for row in kept])  # fmt: skip
