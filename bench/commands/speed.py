"""``python -m bench speed``: what the benchmark costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import RESULTS, Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser("speed", help="what the benchmark costs; about an hour")
    command.add_argument("parts", nargs="*", metavar="PART",
                         help="first, graded, step, clustering, cleanse, start, cross, "
                         "referee, cells, proofs, growth, records, packing, imagenet, overhead, "
                         "fleet. Default: all")  # fmt: skip
    command.add_argument("--repeats", type=int, default=3,
                         help="rounds behind each median. Default: 3")  # fmt: skip
    command.add_argument("--data-dir", type=Path, help="folder that holds MNIST/raw")
    command.add_argument("--to", type=Path, default=RESULTS / "speed.md", metavar="FILE",
                         help="Default: results/speed.md")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench import speed

    unknown = [part for part in options.parts if part not in speed.PARTS]
    if unknown:
        raise BenchError(f"unknown part {unknown[0]!r}; known: {', '.join(speed.PARTS)}")
    if options.repeats < 1:
        raise BenchError(f"--repeats: {options.repeats} is not a number of rounds, 1 or more")
    print(speed.measure(options.to, options.data_dir, options.repeats, options.parts))
    return 0
