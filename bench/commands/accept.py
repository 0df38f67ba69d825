"""``python -m bench accept``: what was measured becomes the baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import RESULTS, Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser("accept", help="write the baseline from records")
    command.add_argument("results", type=Path, nargs="+", help="folders that hold records")
    command.add_argument("--to", type=Path, default=RESULTS / "baseline.json", metavar="FILE",
                         help="Default: results/baseline.json")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis import accepted, baseline, gates
    from bench.analysis.series import measured
    from bench.report import comparison
    from bench.store import records

    found = measured(record for folder in options.results for record in records.load_all(folder))
    after = accepted.accepted(found)
    datasets = {cell.cell["dataset"] for cell in after.values()}
    try:
        before = accepted.load(options.to) if options.to.exists() else {}
    except BenchError as error:
        print(f"replaced, and not compared: {error}")
        before = {}
    kept = {name: cell for name, cell in before.items() if cell.cell["dataset"] not in datasets}
    changes = baseline.compare(before, {**after, **kept})
    for removed in (change for change in changes if change.verdict == "missing"):
        print(f"removed        {removed.name}")
    for line in comparison.lines(change for change in changes if change.verdict != "missing"):
        print(line)
    for series in found.series:
        if gates.verdict(series.records) == "fail":
            print(f"accepted although a gate fails: {series.name}")
    single = sorted(name for name, cell in after.items() if len(cell.seeds) == 1)
    if single:
        print(f"of a single seed, so without a spread: {', '.join(single)}")
    if kept:
        print(f"{len(kept)} cells of other data sets stay as they are")
    accepted.save(options.to, {**after, **kept})
    print(f"{len(after)} cells of {len(found.records)} records -> {options.to}")
    return 0
