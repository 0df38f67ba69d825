"""A data set of the tests' own: what is about the harness needs no good figures, and no wait.

``-p tiny`` registers it in a process of its own that has this folder on its path.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import interpolate

from fixtures import datasets
from fixtures.datasets import ImageSet, RawData, dataset

CLASSES = 4


@dataset(
    "tiny",
    source="scikit-learn's digits",
    defaults={"recipe": {"min_steps": 150}, "attacks": {"poison_rate": 0.1}},
)
def tiny(root: Path) -> RawData:
    """The real digits 0 to 3 of scikit-learn, 12x12: 577 to train on, a victim in half a second."""
    digits = datasets.DATASETS.create("digits", root=root)
    return RawData(small(digits.train), small(digits.test), digits.classes[:CLASSES])


def small(part: ImageSet) -> ImageSet:
    few = part.take(part.labels < CLASSES)
    images = interpolate(few.images, size=(12, 12), mode="area")
    return ImageSet(images.clamp(0, 1), few.labels.to(torch.int64))
