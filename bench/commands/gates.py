"""``python -m bench gates``: what was measured becomes the regression gates of its data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import Subparsers

GATES = Path("bench/expected/gates")
"""Where gates are, from the top of a checkout."""


def add(commands: Subparsers) -> None:
    command = commands.add_parser("gates", help="write regression gates from records")
    command.add_argument("results", type=Path, nargs="+", help="folders that hold records")
    command.add_argument("--to", type=Path, default=GATES, metavar="FOLDER",
                         help=f"where DATASET.toml is written. Default: {GATES}")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis.proposals import SEEDS, proposals
    from bench.analysis.series import measured
    from bench.report.gates import toml
    from bench.runtime import files
    from bench.store import records

    found = measured(record for folder in options.results for record in records.load_all(folder))
    proposed = proposals(found)
    made_of = " ".join(map(str, options.results))
    datasets = dict.fromkeys(series.cell.dataset for series in found.series)
    for dataset in datasets:
        some = [proposal for proposal in proposed if proposal.dataset == dataset]
        if not some:
            print(f"{dataset}: no gate: no cell at its defaults was measured over {SEEDS} seeds")
            continue
        path = files.write(options.to / f"{dataset}.toml", toml(some, made_of))
        count = sum(len(proposal.bounds) for proposal in some)
        print(f"{count} gates of {len(some)} cells -> {path}")
    return 0
