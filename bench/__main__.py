"""``python -m bench``: what is not a run: list, new, report, collect, accept, compare and more."""

from __future__ import annotations

import argparse
import os
import sys

from bench.commands import (
    accept,
    attest,
    audit,
    budgets,
    cache,
    collect,
    compare,
    export,
    gates,
    importing,
    listing,
    merge,
    new,
    odds,
    report,
    speed,
    submit,
    tune,
)
from bench.runtime.waiting import BRIEFLY, wait
from fixtures.errors import BenchError

COMMANDS = (
    *(listing, new, report, collect, merge, accept, gates, compare, attest),
    *(audit, export, importing, odds, budgets, tune, cache, speed, submit),
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a comparison or attestation that fails, 2 bad input, in one line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    wait(BRIEFLY, os.environ)
    try:
        return int(options.run(options))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
