"""``python -m bench odds``: what records of models made to know say of detectors of models."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "odds", help="write what `audit` knows of its detectors' errors, from records"
    )
    command.add_argument("results", type=Path, nargs="+", help="folders that hold records")
    command.add_argument("--to", type=Path, metavar="FILE",
                         help="for `audit --odds`. Default: what the benchmark ships")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis import odds
    from bench.runtime import files
    from bench.store import records
    from fixtures.datasets import load

    found = [record for folder in options.results for record in records.load_all(folder)]
    of_models = [record for record in found if "suspicion" in record.metrics]
    zoos = []
    for dataset in dict.fromkeys(record.cell.dataset for record in of_models):
        some = [record for record in of_models if record.cell.dataset == dataset]
        data = load(dataset)
        zoos.append(odds.measured(some, data.shape, len(data.classes), dataset))
    if not zoos:
        raise BenchError(f"{', '.join(map(str, options.results))}: no record of a model detector")
    made_of = " ".join(map(str, options.results))
    path = files.write(
        options.to or odds.FILE, odds.written(zoos, f"python -m bench odds {made_of}")
    )
    print(f"{len(of_models)} records of {len(zoos)} data sets -> {path}")
    return 0
