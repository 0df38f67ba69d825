"""``python -m bench attest``: changed code that measures the same keeps what it had measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "attest",
        help="measure some cells again under changed code, and keep all records where equal",
    )
    command.add_argument("names", nargs="*", metavar="NAME",
                         help="a plugin, or a glob of cell ids. Default: all records")  # fmt: skip
    command.add_argument("--results", type=Path, metavar="FOLDER",
                         help="a folder of results, instead of the cache")  # fmt: skip
    command.add_argument("--data-dir", type=Path, help="folder that holds MNIST/raw")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.harness.attest import attest
    from bench.runtime.workspace import Workspace

    workspace = Workspace(data=options.data_dir, device=options.device)
    lines, equal = attest(workspace, options.names, options.results)
    for line in lines:
        print(line)
    return 0 if equal else 1
