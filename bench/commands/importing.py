"""``python -m bench import``: another suite's saved attack, made a folder for ``imported``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "import", help="make what BackdoorBench saved of an attack a folder for --attack imported"
    )
    command.add_argument("result", metavar="RESULT", type=Path,
                         help="its folder, with attack_result.pt and bd_train_dataset")  # fmt: skip
    command.add_argument("folder", metavar="DIR", type=Path, help="where the new one is written")
    command.add_argument("--dataset", required=True, metavar="NAME",
                         help="the data set that it is of, such as cifar10")  # fmt: skip
    command.add_argument(
        "--data-dir", type=Path, help="the data folder. Default: $TRIGGERBENCH_DATA or the user's"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.auditing.backdoorbench import converted
    from bench.spec.parameters import with_parameters
    from fixtures.datasets import load

    try:
        name, params = with_parameters(options.dataset)
    except ValueError as error:
        raise BenchError(f"--dataset: {error}") from error
    dataset = load(name, options.data_dir, **dict(params))
    for line in converted(options.result, options.folder, dataset):
        print(f"{options.folder}: {line}")
    return 0
