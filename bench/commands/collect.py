"""``python -m bench collect``: a run's records, packed to be committed."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands import submit
from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "collect", help="pack the records of a run into records.jsonl, which is committed"
    )
    command.add_argument("run_folder", metavar="RUN",
                         help="a folder with records/, or with --address a job")  # fmt: skip
    command.add_argument("--to", type=Path, required=True, metavar="STUDY",
                         help="the folder of its records.jsonl, as results/mnist: a cell "
                         "that is there is replaced, all others stay; - prints them")  # fmt: skip
    command.add_argument("--address", metavar="URL", help="of the cluster that the job runs on")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.store import collect

    if options.address is not None:
        from bench.cluster import submission

        found = submission.collected(submit.address(options), options.run_folder)
    else:
        found = collect.of_run(Path(options.run_folder))
    if str(options.to) == "-":
        for record in found:
            print(record.line())
        return 0
    for line in collect.add(found, options.to):
        print(line)
    return 0
