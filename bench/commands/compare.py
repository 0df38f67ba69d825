"""``python -m bench compare``: is one run as good as another?"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser("compare", help="is B as good as A? Exit code 1 where it is not")
    what = "a baseline file or a folder that holds records"
    command.add_argument("before", type=Path, metavar="A", help=what)
    command.add_argument("after", type=Path, metavar="B", help=what)
    command.add_argument(
        "--strict-baseline", action="store_true", help="fail also where cells are not comparable"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis import accepted, baseline
    from bench.report import comparison

    strict = options.strict_baseline
    found = baseline.compare(accepted.load(options.before), accepted.load(options.after))
    for line in comparison.lines(found):
        print(line)
    print(f"verdict: {comparison.verdict_line(found, strict=strict)}")
    comparison.append_step_summary(comparison.markdown(found, strict=strict))
    return 1 if baseline.failing(found, strict=strict) else 0
