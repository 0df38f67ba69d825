"""``python -m bench report``: tables, figures and the leaderboard from records."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.parsing import RESULTS, Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "report", help="write tables, figures and the leaderboard from records"
    )
    command.add_argument(
        "results",
        type=Path,
        nargs="*",
        help="folders that hold records. Default: all in results/ but results/latest, for one "
        "leaderboard in results/",
    )
    command.add_argument("--to", type=Path, help="write there instead of beside the records")
    command.add_argument(
        "--embed",
        type=Path,
        action="append",
        default=[],
        metavar="PAGE",
        help="make the parts between markers of this page anew, too: README.md, or docs for all "
        "pages in it",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis.sensitivity import sensitivities
    from bench.analysis.series import measured
    from bench.report import agreement, leaderboard, pages, sensitivity
    from bench.report.write_up import write_up
    from bench.store import records

    folders = options.results or _folders()
    loaded = [record for folder in folders for record in records.load_all(folder)]
    found, tuned = measured(loaded), sensitivities(measured(loaded, "validation"))
    to = options.to or (folders[0] if len(options.results) == 1 else RESULTS)
    embedded = pages.embed(found, options.embed)  # first: a page without markers stops here
    if not found.series:
        written = []
    elif len(options.results) == 1:
        done = write_up(found, to, pictures=folders[0])
        written = [done.report, *done.tables, *done.figures]
    else:
        written = [
            *leaderboard.write(found, to, pictures=folders),
            *agreement.write(found, to),
        ]
    if options.results:  # each folder of tuning has its own pages already
        written += sensitivity.write(tuned, to)
    for path in [*written, *embedded]:
        print(path)
    print(f"{len(loaded)} records of {', '.join(map(str, folders))} -> {to}")
    return 0


def _folders() -> list[Path]:
    from bench.store import records

    found = records.studies(RESULTS)
    if not found:
        raise BenchError(f"{RESULTS}: no folder in it holds records; run `pytest bench` first")
    return found
