"""A cell's poisoned training set, triggered images and victim as plain files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from attacks import ATTACKS
from bench.auditing.lines import one_line
from bench.auditing.mending import WRITERS
from bench.measure import run
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.victims import Victim, victim
from fixtures import exchange
from fixtures.errors import BenchError
from fixtures.images import BATCH, ImageSet

CARD = "README.md"


def export(cell: Cell, folder: Path, workspace: Workspace) -> list[str]:
    """Write the cell's victim and data into a new folder; what was written, a line each.

    Raises BenchError where the folder is there already, or cannot be written.
    """
    check_empty(folder)
    made = victim(cell, workspace)
    metrics = run(cell, workspace).metrics
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / exchange.TRAIN, exchange.TRAIN_COLUMNS, _training(folder, made))
        rows = [
            row
            for split in ("test", "validation")
            for row in _triggered(folder, made.judged_on(split), split)
        ]
        write_rows(folder / exchange.TRIGGERED, exchange.TRIGGERED_COLUMNS, rows)
        net, sample = made.model.cpu().eval(), made.dataset.test.batch(torch.arange(2))
        WRITERS["safetensors file"](folder / exchange.VICTIM, net, sample)
        told = _onnx(folder, net, sample)
        (folder / CARD).write_text(card(made, metrics), encoding="utf-8")
        # Last: without it the folder is none that can be read.
        (folder / exchange.ABOUT).write_bytes(
            msgspec.json.format(msgspec.json.encode(_about(made)))
        )
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return [f"{len(made.dataset.train)} training images, {len(rows)} triggered ones", *told]


def _about(made: Victim) -> exchange.About:
    classes = torch.arange(len(made.dataset.classes))
    each = range(made.attack.triggers)
    return exchange.About(
        schema=exchange.SCHEMA,
        cell=made.cell.to_json(),
        fingerprint=made.dataset.fingerprint,
        shape=made.dataset.shape,
        classes=made.dataset.classes,
        target=made.attack.target,
        aims=tuple(tuple(made.attack.aim(classes, which).tolist()) for which in each),
        applies=tuple(tuple(made.attack.applies(classes, which).tolist()) for which in each),
    )


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A list of `fixtures.exchange`. Raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def check_empty(folder: Path) -> None:
    """Raise BenchError where something is there already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BenchError(f"{folder}: it is not empty, and nothing of it is overwritten")


def _training(folder: Path, made: Victim) -> Iterator[dict[str, Any]]:
    """Every sample as it was handed over, under the label that it was given."""
    names = folders(made.dataset.classes)
    published = made.dataset.train.labels.tolist()
    for at, label, pixels in _each(made.received):
        role = exchange.ROLES[int(made.roles[at])]
        yield training_row(folder, names, at, label, published[at], role, pixels)


def training_row(
    folder: Path,
    names: Sequence[str],
    at: int,
    label: int,
    published: int,
    role: str,
    pixels: Tensor,
) -> dict[str, Any]:
    """One sample, written, as ``train.csv`` lists it. ``names``: of the classes' folders."""
    file = f"train/{names[label]}/{at:06}.png"
    return {
        "index": at,
        "file": file,
        "label": label,
        "published_label": published,
        "role": role,
        "pixels": exchange.write_image(folder, file, pixels),
    }


def _triggered(folder: Path, made: Victim, split: str) -> Iterator[dict[str, Any]]:
    """Every image of a split with each trigger, under its true label, and the clean one beside."""
    names, clean = folders(made.dataset.classes), made.dataset.test
    for which in range(made.attack.triggers):
        aims = made.attack.aim(clean.labels, which).tolist()
        stamped = made.triggered(which)
        for (at, label, pixels), (_, _, before) in zip(_each(stamped), _each(clean), strict=True):
            if which == 0:
                exchange.write_image(folder, f"{split}/{names[label]}/{at:06}.png", before)
            yield triggered_row(folder, names, split, at, which, label, aims[at], pixels, before)


def triggered_row(
    folder: Path,
    names: Sequence[str],
    split: str,
    at: int,
    which: int,
    label: int,
    aim: int,
    pixels: Tensor,
    clean: Tensor,
) -> dict[str, Any]:
    """One image with a trigger, written, as ``triggered.csv`` lists it; ``clean``: without it."""
    file = f"triggered{which}/{split}/{names[label]}/{at:06}.png"
    return {
        "file": file,
        "split": split,
        "index": at,
        "which": which,
        "label": label,
        "aim": aim,
        "pixels": exchange.write_image(folder, file, pixels),
        "clean_pixels": exchange.digest(clean),
    }


def _each(images: ImageSet) -> Iterator[tuple[int, int, Tensor]]:
    """Position, label and pixels, uint8 [C, H, W], of one image after another."""
    for index in torch.arange(len(images)).split(BATCH):
        pixels = images.bytes(index).cpu()
        yield from zip(index.tolist(), images.labels[index].tolist(), pixels, strict=True)


def folders(classes: Sequence[str]) -> list[str]:
    """Names of classes as names of folders, each its own."""
    return [f"{at:03}-{name}".replace("/", "_") for at, name in enumerate(classes)]


def _onnx(folder: Path, net: nn.Module, sample: Tensor) -> list[str]:
    try:
        WRITERS["ONNX model"](folder / "victim.onnx", net, sample)
    except Exception as error:  # its library is not there, or does not know an operator
        (folder / "victim.onnx").unlink(missing_ok=True)
        return [f"no victim.onnx ({type(error).__name__}: {one_line(error)})"]
    return ["victim.onnx"]


def card(made: Victim, metrics: Mapping[str, float]) -> str:
    """What the folder is, in Markdown: a data card (Pushkarna et al. 2022), as far as it is known
    here."""
    cell, info = made.cell, ATTACKS[made.cell.attack].info
    counts = torch.bincount(made.roles.long(), minlength=3).tolist()
    roles = ", ".join(f"{n} {role}" for n, role in zip(counts, exchange.ROLES, strict=True))
    figures = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    classes = made.dataset.classes
    lines = [
        f"# {cell.id}",
        "",
        "**This data and this model are backdoored, for research on defenses.** Do not deploy the "
        "model, and train nothing on these images that anybody relies on.",
        "",
        f"- Data set: {cell.dataset}, images {list(made.dataset.shape)}, {len(classes)} classes, "
        f"fingerprint {made.dataset.fingerprint}. Its license and terms hold for these images.",
        f"- Attack: {cell.attack}. {ATTACKS[cell.attack].summary} Source: {info.source or 'none'}; "
        f"the attacker needs: {info.needs or 'nothing'}.",
        f"- Training set: {len(made.roles)} samples: {roles}.",
        f"- Model: {cell.model_name}; `victim.safetensors`, images in [0, 1].",
        "",
        "`train/`, `test/` and `validation/` hold a folder a class, `triggered0/` the test and "
        "validation images with the trigger. `train.csv` says of every sample its label, the "
        "published one and its role, `triggered.csv` of every triggered image the class that it "
        "aims at. Images are PNG, byte for byte what the model was trained and judged on.",
        "",
        f"`pytest bench --dataset {cell.dataset} --model {cell.model_name} "
        "--attack imported+path=THIS_FOLDER` makes it a cell again.",
        "",
        "| metric | value |",
        "| --- | --- |",
        *figures,
        "",
    ]
    return "\n".join(lines)
