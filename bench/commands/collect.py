"""``python -m bench collect``: a run's records, packed to be committed."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "collect", help="pack the records of a run into records.jsonl, which is committed"
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="a folder with records/")
    command.add_argument("--to", type=Path, required=True, metavar="STUDY",
                         help="the folder of its records.jsonl, as results/mnist: a cell "
                         "that is there is replaced, all others stay")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.store.collect import collect

    for line in collect(options.run_folder, options.to):
        print(line)
    return 0
