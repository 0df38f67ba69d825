"""``python -m bench new``: a working plugin to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "new", help="write a working plugin and its test into this folder, to start from"
    )
    command.add_argument("what", metavar="attack|defense|dataset|model")
    command.add_argument("name", metavar="NAME", help="lower-case letters, digits, underscores")
    command.add_argument("--kind", metavar="samples|model|inputs|repair|training|certified",
                         help="of a defense: what it judges, or that it repairs. "
                         "Default: samples")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.harness.new import commands, new

    try:
        folder = Path.cwd()
    except OSError as error:
        raise BenchError(f"the current folder cannot be used: {error.strerror}") from error
    written = new(options.what, options.name, folder, defense=options.kind)
    test, run = commands(options.what, options.name, folder)
    print(f"wrote {' and '.join(path.name for path in written)}")
    print(f"to test it:\n    {test}\nto run it:\n    {run}")
    return 0
