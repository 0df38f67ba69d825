"""What BackdoorBench saves of an attack, made a folder of `fixtures.exchange`.

Its format (Wu et al. 2022, arXiv:2206.12654; its ``save_load_attack.py`` and ``bd_dataset_v2.py``):
``attack_result.pt`` holds weights, and which samples of the published training and test set were
changed, under their positions there; the changed images lie beside it as
``bd_train_dataset/<label>/<position>.png`` and ``bd_test_dataset/...``. Nothing is unpickled but
numbers, text, tensors and NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.auditing.exporting import (
    check_empty,
    folders,
    training_row,
    triggered_row,
    write_rows,
)
from bench.auditing.lines import one_line
from bench.auditing.weights import loaded, named
from fixtures import exchange
from fixtures.datasets import Dataset
from fixtures.errors import BenchError
from fixtures.images import ImageSet

RESULT = exchange.FOREIGN
KEYS = ("num_classes", "model", "bd_train", "bd_test")


@dataclass(frozen=True)
class Changed:
    """One image that the attack changed. ``label``: what it was given, for a test image what it is
    aimed at; ``published``: the true one."""

    file: Path
    label: int
    published: int


def converted(result: Path, folder: Path, dataset: Dataset) -> list[str]:
    """Write the folder for `--attack imported`; what was written, a line each.

    ``result``: BackdoorBench's folder of one attack. ``dataset``: the one that it was of; of its
    training images those count that are not the defender's or for choices. Raises BenchError, one
    line, and nothing is left of the folder's ``cell.json`` then.
    """
    check_empty(folder)
    found = read(result)
    if found["num_classes"] != len(dataset.classes):
        raise BenchError(
            f"{result}: it has {found['num_classes']} classes, data set {dataset.name!r} has "
            f"{len(dataset.classes)}"
        )
    if found["bd_train"] is None:
        raise BenchError(
            f"{result}: it holds no training set, since the attack controlled the training; its "
            "model can be audited all the same"
        )
    train = changed(result, found["bd_train"], "bd_train")
    test = changed(result, found["bd_test"], "bd_test")
    weights = _weights(result, found["model"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(_training(folder, dataset, train))
        write_rows(folder / exchange.TRAIN, exchange.TRAIN_COLUMNS, rows)
        triggered = list(_triggered(folder, dataset, test))
        write_rows(folder / exchange.TRIGGERED, exchange.TRIGGERED_COLUMNS, triggered)
        save_file(weights, folder / exchange.VICTIM)
        about = msgspec.json.encode(_about(result, dataset, triggered))
        # Last: without it the folder is none that can be read.
        (folder / exchange.ABOUT).write_bytes(msgspec.json.format(about))
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written ({error.strerror or error})") from error
    poison = sum(row["role"] == "poison" for row in rows)
    return [
        f"{len(rows)} training images, {poison} of its {len(train)} poisoned ones among them (the "
        "others are images that a defender holds here, or that choices are made on)",
        f"{len(triggered)} triggered test images; of validation images it has none",
    ]


def read(result: Path) -> Mapping[str, Any]:
    """``attack_result.pt``, with nothing run. Raises BenchError, one line."""
    path = result / RESULT
    if not path.is_file():
        raise BenchError(f"{path}: no such file; expected what BackdoorBench saves of an attack")
    found = loaded(
        path,
        "BackdoorBench keeps changed images out of it where its attack is given a folder for them",
    )
    lacking = [key for key in KEYS if not isinstance(found, Mapping) or key not in found]
    if lacking:
        raise BenchError(f"{path}: it lacks {', '.join(lacking)}, so it is no attack's result")
    return dict(found)


def changed(result: Path, state: Any, part: str) -> dict[int, Changed]:
    """By position in what was published, the images that were changed. Raises BenchError."""
    where = f"{result / RESULT}, {part}"
    try:
        listed = state["bd_data_container"]["data_dict"]
        kept = set(map(int, state["original_index_array"]))
        found = {}
        for position, entry in listed.items():
            if int(position) not in kept:
                continue
            label, published = (int(number) for number in entry["other_info"])
            name = PurePosixPath(str(entry["path"]).replace("\\", "/"))
            file = result.joinpath(f"{part}_dataset", *name.parts[-2:])
            found[int(position)] = Changed(file, label, published)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(
            f"{where}: its entries are not position -> path and labels ({one_line(error)})"
        ) from error
    if not found:
        raise BenchError(f"{where}: no image was changed")
    return found


def _training(
    folder: Path, dataset: Dataset, found: Mapping[int, Changed]
) -> Iterator[dict[str, Any]]:
    names = folders(dataset.classes)
    for at, published, clean, one in _each(dataset.train, found, "training", len(names)):
        if one is None:
            yield training_row(folder, names, at, published, published, "clean", clean)
        else:
            pixels = _pixels(one.file, dataset.shape)
            yield training_row(folder, names, at, one.label, published, "poison", pixels)


def _triggered(
    folder: Path, dataset: Dataset, found: Mapping[int, Changed]
) -> Iterator[dict[str, Any]]:
    names = folders(dataset.classes)
    for at, label, clean, one in _each(dataset.test, found, "test", len(names)):
        if one is not None:
            pixels = _pixels(one.file, dataset.shape)
            yield triggered_row(folder, names, "test", at, 0, label, one.label, pixels, clean)


def _each(
    images: ImageSet, found: Mapping[int, Changed], part: str, classes: int
) -> Iterator[tuple[int, int, Tensor, Changed | None]]:
    """Position, label and pixels of each image, and what it was changed to, if it was."""
    labels = images.labels.tolist()
    for at, position in enumerate(_positions(images)):
        one = found.get(position)
        if one is not None:
            _of_the_data(one, labels[at], position, part, classes)
        yield at, labels[at], images.bytes(torch.tensor([at]))[0], one


def _positions(images: ImageSet) -> list[int]:
    """Where each lies in what was published."""
    rows = images._rows  # a public name for it would be new code of every victim: all trained anew
    return list(range(len(images))) if rows is None else rows.tolist()


def _of_the_data(one: Changed, label: int, position: int, part: str, classes: int) -> None:
    """Raises BenchError where an image was made of another data set, or of one in another order."""
    if one.published != label or not 0 <= one.label < classes:
        raise BenchError(
            f"{one.file}: it was made of an image of class {one.published} and given {one.label}; "
            f"{part} image {position} of this data set is of class {label}, of {classes}"
        )


def _pixels(file: Path, shape: tuple[int, int, int]) -> Tensor:
    pixels = exchange.read_png(file)
    if tuple(pixels.shape) != tuple(shape):
        raise BenchError(f"{file}: it is {list(pixels.shape)}, the data set's are {list(shape)}")
    return pixels


def _about(
    result: Path, dataset: Dataset, triggered: Iterable[Mapping[str, Any]]
) -> exchange.About:
    """A class's images are aimed where most of them are; classes without any stay as they are."""
    count = len(dataset.classes)
    votes = torch.zeros(count, count, dtype=torch.int64)
    for row in triggered:
        votes[row["label"], row["aim"]] += 1
    applies = votes.sum(1) > 0
    aims = torch.where(applies, votes.argmax(1), torch.arange(count))
    return exchange.About(
        schema=exchange.SCHEMA,
        cell={"dataset": dataset.name, "source": f"BackdoorBench, {result.name}"},
        fingerprint=dataset.fingerprint,
        shape=dataset.shape,
        classes=dataset.classes,
        target=int(votes.sum(0).argmax()),
        aims=(tuple(aims.tolist()),),
        applies=(tuple(applies.tolist()),),
    )


def _weights(result: Path, given: Any) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): value.contiguous().clone()
        for name, value in named(result / RESULT, given).items()
    }
