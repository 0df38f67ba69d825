"""The images of an audit, read from folders or zips; packed into the cache once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fixtures.errors import DataError
from fixtures.images import ImageSet
from fixtures.packing.arrangement import by_class, unsorted
from fixtures.packing.packing import packed


class Labelled(NamedTuple):
    """Images with the names of their classes, in the order of their labels."""

    images: ImageSet
    classes: tuple[str, ...]


def clean(path: Path, size: int | None = None) -> Labelled:
    """Clean images by class: ``CLASS/*``, or the held-out part where ``train`` lies beside it.

    ``size``: the side that they are resized to. Raises DataError, one line.
    """
    found = packed("data", _there(path), by_class, size=size)
    return Labelled(found.test, found.classes)


def suspect(path: Path, classes: tuple[str, ...], size: int | None = None) -> ImageSet:
    """A training set by class: ``CLASS/*`` or ``train/CLASS/*``.

    Raises DataError, one line, also where its classes are not those of the clean images.
    """
    found = packed("suspect", _there(path), by_class, size=size)
    if found.classes != classes:
        other = sorted(set(found.classes) ^ set(classes))[:3]
        raise DataError(f"{path}: its classes are not those of the clean images: {other}")
    return found.train if len(found.train) else found.test


def traffic(path: Path, size: int | None = None) -> ImageSet:
    """All images below a folder, whatever they show. Raises DataError, one line."""
    return packed("inputs", _there(path), unsorted, size=size).test


def _there(path: Path) -> Path:
    given = path.expanduser()
    if not given.exists():
        raise DataError(f"{path} does not exist")
    return given.resolve()
