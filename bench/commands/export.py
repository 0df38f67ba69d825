"""``python -m bench export``: a cell's data and victim as plain files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from bench.spec.cell import Cell


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "export", help="a cell's poisoned training set, triggered images and victim as files"
    )
    command.add_argument("cell", metavar="CELL", help="such as mnist-simplecnn-patch-s0")
    command.add_argument("folder", metavar="DIR", type=Path, help="where they are written")
    command.add_argument(
        "--data-dir", type=Path, help="the data folder. Default: $TRIGGERBENCH_DATA or the user's"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.auditing.exporting import export
    from bench.runtime.workspace import Workspace

    for line in export(named(options.cell), options.folder, Workspace(data=options.data_dir)):
        print(f"{options.folder}: {line}")
    return 0


def named(text: str) -> Cell:
    """``mnist-simplecnn-pixel+poison_rate=0.1-s0`` -> the cell. Raises BenchError, one line."""
    from bench.spec.cell import Cell
    from bench.spec.parameters import with_parameters

    parts = re.fullmatch(r"([^-]+)-([^-@]+)-(.+)-s(\d+)", text)
    if parts is None:
        raise BenchError(f"{text!r} is no cell without a defense like mnist-simplecnn-patch-s0")
    try:
        (dataset, about), (model, built), (attack, given) = map(with_parameters, parts.groups()[:3])
    except ValueError as error:
        raise BenchError(f"{text!r}: {error}") from error
    if "-" in attack:
        raise BenchError(f"{text!r}: a cell is exported without its defense")
    return Cell(
        dataset=dataset,
        model=model,
        attack=attack,
        seed=int(parts[4]),
        attack_params=given,
        model_params=built,
        dataset_params=about,
    )
