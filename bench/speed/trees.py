"""Trees of JPEGs, made up, and what is done with one in a process of its own, timed inside it.

What a module imports is not timed: each function imports it before it looks at the clock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, TEST_SHARE, QUALITY, BATCH = 100, 20, 90, 256
"""Every so-manieth image, `TEST_SHARE`, is one of the test split."""


def generate(folder: Path, images: int, side: int) -> Path:
    """``images`` colour JPEGs of side x side: smooth fields, edges, a little noise."""
    from PIL import Image

    random = np.random.default_rng(0)

    def smooth(low: int, high: int, cells: int) -> Any:
        coarse = Image.fromarray(random.integers(low, high, (cells, cells), dtype=np.uint8))
        return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)

    for number in range(images):
        pixels = smooth(60, 200, 5)[..., None] + smooth(0, 50, 3)[..., None] * (1, 0, -1)
        y, x = random.integers(0, side * 2 // 3, 2)
        pixels[y : y + side // 3, x : x + side // 3] += random.integers(-50, 50)
        pixels += random.integers(-5, 6, (side, side, 1))
        split = "test" if number % TEST_SHARE == 0 else "train"
        place = folder / split / f"class {number // TEST_SHARE % CLASSES:03}" / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place, quality=QUALITY)
    return folder


def plain_loop(folder: str, target: str) -> float:
    """Seconds to decode every image with Pillow and write its bytes into one file."""
    from PIL import Image

    began = time.perf_counter()
    with Path(target).open("wb") as file:
        for path in sorted(Path(folder).glob("*/*/*.jpg")):
            with Image.open(path) as image:
                file.write(np.asarray(image.convert("RGB")).tobytes())
    return time.perf_counter() - began


def with_dataloader(folder: str) -> float:
    """Seconds of one pass with torchvision's ImageFolder and a worker on every core."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import PILToTensor

    workers = len(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    began = time.perf_counter()
    for split in ("train", "test"):
        images = ImageFolder(f"{folder}/{split}", PILToTensor())
        for _ in DataLoader(images, batch_size=BATCH, num_workers=workers):
            pass
    return time.perf_counter() - began


def packed(path: str, size: int | None = None) -> float:
    """Seconds until the data set `folder` is there, its identity and its first batch read."""
    import torch

    from fixtures import datasets

    datasets.DATASETS["folder"]  # imports what there is
    began = time.perf_counter()
    found = datasets.load("folder", None, path=path, **({} if size is None else {"size": size}))
    found.train.batch(torch.randint(len(found.train), (BATCH,)))
    assert found.fingerprint
    return time.perf_counter() - began


def an_epoch(path: str) -> tuple[float, float]:
    """Seconds of one epoch of a small network on a packed set, and MB of anonymous memory at most.

    What is mapped from the packed file is not anonymous: the system takes it back when it likes.
    """
    import torch
    from torch import nn

    from fixtures import datasets
    from fixtures.recipes import Recipe
    from fixtures.training import fit

    with _anonymous() as peak:
        found = datasets.load("folder", None, path=path)
        net = nn.Sequential(
            nn.Conv2d(found.shape[0], 16, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(256, len(found.classes)),
        )  # fmt: skip
        began = time.perf_counter()
        recipe = Recipe(epochs=1, min_steps=1, shift=2)
        fit(net, found.train, recipe, generator=torch.Generator().manual_seed(0))
        took = time.perf_counter() - began
    return took, peak()


@contextmanager
def _anonymous() -> Iterator[Callable[[], float]]:
    """The most anonymous memory that this process holds meanwhile, in MB; Linux only."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text()
            most[0] = max(most[0], int(status.partition("RssAnon:")[2].split()[0]) / 1000)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        watcher.join()
