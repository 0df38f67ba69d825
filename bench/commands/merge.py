"""``python -m bench merge``: results folders that were made in several places, in one."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "merge", help="put results folders made elsewhere together; what both have must be equal"
    )
    command.add_argument("folders", type=Path, nargs="+", metavar="FOLDER",
                         help="with records.jsonl or records/")  # fmt: skip
    command.add_argument("--to", type=Path, required=True, metavar="STUDY",
                         help="the folder of the records.jsonl that holds all of them")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.store.merging import merge

    for line in merge(options.folders, options.to):
        print(line)
    return 0
