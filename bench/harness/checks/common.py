"""What the checks share: the images they work on, and what they call a plugin."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch.nn.functional import interpolate

from fixtures.images import ImageSet
from fixtures.recipes import Recipe

Shape = tuple[int, int, int]
"""Channels, height, width."""

DATASET = "digits"
"""Real images that need no download."""

MODEL = "simplecnn"
"""The network that is attacked and defended in a check."""

FEW = Recipe(epochs=1, min_steps=4)
"""How it is trained where it need not be good."""

SHAPES: tuple[Shape, ...] = ((1, 28, 28), (3, 32, 32), (3, 64, 64))
"""Of MNIST, CIFAR-10 and Tiny ImageNet: what attacks and models must do on."""

CLASSES = (10, 43)
"""Of CIFAR-10 and GTSRB."""

GRID: tuple[tuple[Shape, int], ...] = tuple(product(SHAPES, CLASSES))
"""Every shape with every number of classes."""

PER_CLASS = 5
"""Images of each class of a `Sample` that is made up, for training; one more is for testing."""


class Sample(NamedTuple):
    """Labelled images for a check. ``where``: what messages add to a plugin's name."""

    train: ImageSet
    test: ImageSet
    num_classes: int
    where: str = ""


@lru_cache(maxsize=len(GRID))
def made_up(shape: Shape, num_classes: int) -> Sample:
    """Grey clouds with fine grain, the same on every call; no class has a look of its own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange((PER_CLASS + 1) * num_classes) % num_classes
    channels, height, width = shape
    coarse = torch.rand(len(labels), channels, 4, 4, generator=generator)
    clouds = interpolate(coarse, size=(height, width), mode="bilinear")
    grain = torch.rand(len(labels), *shape, generator=generator)
    whole = ImageSet(0.6 * clouds + 0.3 * grain, labels)
    train = torch.arange(len(labels)) < PER_CLASS * num_classes
    where = f" for images {list(shape)} of {num_classes} classes"
    return Sample(whole.take(train), whole.take(~train), num_classes, where)


def named(kind: str, plugin: Any) -> str:
    """What messages call a plugin: by its registered name, or what is registered by its own."""
    return f"{kind} {plugin if isinstance(plugin, str) else called(plugin)!r}"


def called(plugin: Any) -> str:
    """A class or function's own name; of what is built already, its class's."""
    return str(getattr(plugin, "__name__", type(plugin).__name__))
