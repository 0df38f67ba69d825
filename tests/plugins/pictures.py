"""Images that look natural enough, made here: smooth fields, edges, a little noise."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(random: np.random.Generator, side: int = 32, *, grey: bool = False) -> Image.Image:
    """Grey levels from 40 to 215, so that faint triggers are not cut off at black or white."""

    def smooth(low: int, high: int, cells: int) -> np.ndarray:
        coarse = Image.fromarray(random.integers(low, high, (cells, cells), dtype=np.uint8))
        return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)

    pixels = np.repeat(smooth(75, 180, 5)[..., None], 3, axis=2)
    pixels += np.stack([smooth(0, 40, 3) for _ in range(3)], axis=2) - 20
    for _ in range(2):
        y, x = random.integers(0, side * 2 // 3, 2)
        height, width = random.integers(side // 6, side // 2, 2)
        pixels[y : y + height, x : x + width] += random.integers(-30, 30)
    pixels += random.integers(-5, 6, (side, side, 1))
    image = Image.fromarray(pixels.clip(40, 215).astype(np.uint8))
    return image.convert("L") if grey else image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tree(
    *,
    classes: Sequence[str] = ("cat", "dog"),
    train: int = 6,
    test: int = 2,
    held_out: str = "test",
    side: int = 16,
    seed: int = 0,
    grey: bool = False,
) -> dict[str, bytes]:
    """Path -> PNG, ``train`` and ``test`` images of each class."""
    random = np.random.default_rng(seed)
    return {
        f"{split}/{name}/{number:03}.png": encoded(picture(random, side, grey=grey), "PNG")
        for split, count in (("train", train), (held_out, test))
        for name in classes
        for number in range(count)
    }


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pixels(files: Mapping[str, bytes]) -> Iterator[np.ndarray]:
    """uint8 [C, H, W] of each file in the order of their paths, training images first."""
    for name in sorted(files, key=lambda name: (not name.startswith("train"), name)):
        array = np.asarray(Image.open(io.BytesIO(files[name])))
        yield array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
