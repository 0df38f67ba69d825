"""What every data set must keep to: it loads the same again, names classes, repeats no image."""

from __future__ import annotations

import os
from typing import Any

from bench.harness.checks.common import called, named
from fixtures import datasets
from fixtures.blame import need
from fixtures.datasets import DATASETS, Dataset, Loader
from fixtures.seeding import seeded

DUPLICATES = 0.01
"""The share of test images that may be in the training split too: published sets repeat a few."""

OF_TRAINING = " (a twentieth of each class's training images)"
SPLITS = {"train": "", "clean": OF_TRAINING, "validation": OF_TRAINING, "test": ""}
"""Where each class must have an image, and what a message adds."""


def check_dataset(
    plugin: str | Loader, root: str | os.PathLike[str] | None = None, **params: Any
) -> None:
    """Load a data set twice and check its images, labels, classes and splits.

    ``root``: the data folder, see `fixtures.places.data_folder`. ``params``: its arguments. Raises
    DataError, PluginError, one line.
    """
    name = named("data set", plugin)
    folder = datasets.data_folder(root)
    loader = DATASETS[plugin].factory if isinstance(plugin, str) else plugin
    label = plugin if isinstance(plugin, str) else called(plugin)
    with seeded(0):
        data = datasets.split(label, loader, folder, **params)
    with seeded(1):
        again = datasets.split(label, loader, folder, **params)
    need(
        data.fingerprint == again.fingerprint,
        name,
        "is different when it is loaded again: draw from a generator with a seed of its own",
    )
    _check_classes(name, data)
    _check_disjoint(name, data)


def _check_classes(name: str, data: Dataset) -> None:
    classes = data.classes
    need(
        isinstance(classes, tuple) and all(isinstance(c, str) and c for c in classes),
        name,
        f"classes must be a tuple of names, got {classes!r}",
    )
    need(len(classes) >= 2, name, f"needs two classes or more, got {len(classes)}")
    twice = [c for c in dict.fromkeys(classes) if classes.count(c) > 1]
    need(not twice, name, f"two classes are called {twice[0]!r}" if twice else "")
    for split, why in SPLITS.items():
        counts = getattr(data, split).labels.bincount(minlength=len(classes))
        empty = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 0]
        need(not empty, name, f"class {empty[0]!r} has no {split} image{why}" if empty else "")


def _check_disjoint(name: str, data: Dataset) -> None:
    parts = [part for part in SPLITS if part != "test"]
    repeated = sum(data.duplicates[f"{part}, test"] for part in parts)
    need(
        repeated <= DUPLICATES * len(data.test),
        name,
        f"{repeated} of {len(data.test)} test images are training images too",
    )
