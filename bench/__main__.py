"""``python -m bench``: what is not a run: list, new, report, collect, accept, compare and more."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fixtures.errors import BenchError

if TYPE_CHECKING:
    from bench.store.records import Record


RESULTS = Path("results")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a comparison that fails, 2 bad input, told in one line."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("list", help="every data set, model, attack, defense and suite")
    command.set_defaults(run=_list)

    command = commands.add_parser(
        "new", help="write a working plugin and its test into this folder, to start from"
    )
    command.add_argument("what", metavar="attack|defense|dataset|model")
    command.add_argument("name", metavar="NAME", help="lower-case letters, digits, underscores")
    command.add_argument("--kind", metavar="samples|model|inputs|repair",
                         help="of a defense: what it judges, or that it repairs. "
                         "Default: samples")  # fmt: skip
    command.set_defaults(run=_new)

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
    command.set_defaults(run=_report)

    command = commands.add_parser(
        "collect", help="pack the records of a run into records.jsonl, which is committed"
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="a folder with records/")
    command.add_argument("--to", type=Path, required=True, metavar="STUDY",
                         help="the folder of its records.jsonl, as results/mnist: a record "
                         "of the same cell and key is replaced, all others stay")  # fmt: skip
    command.set_defaults(run=_collect)

    command = commands.add_parser("accept", help="write the baseline from records")
    command.add_argument("results", type=Path, nargs="+", help="folders that hold records")
    command.add_argument("--to", type=Path, default=RESULTS / "baseline.json", metavar="FILE",
                         help="Default: results/baseline.json")  # fmt: skip
    command.set_defaults(run=_accept)

    command = commands.add_parser("compare", help="is B as good as A? Exit code 1 where it is not")
    what = "a baseline file or a folder that holds records"
    command.add_argument("before", type=Path, metavar="A", help=what)
    command.add_argument("after", type=Path, metavar="B", help=what)
    command.add_argument(
        "--strict-baseline", action="store_true", help="fail also where cells are not comparable"
    )
    command.set_defaults(run=_compare)

    command = commands.add_parser("cache", help="size and age of what is kept, and pruning it")
    command.add_argument("--limit", default="2GB", help="what the cache may hold. Default: 2GB")
    command.add_argument(
        "--prune", action="store_true", help="delete the least recently used above the limit"
    )
    command.set_defaults(run=_cache)

    command = commands.add_parser("speed", help="what the benchmark costs; about 40 minutes")
    command.add_argument("parts", nargs="*", metavar="PART",
                         help="first, graded, step, clustering, cleanse, start, cross, cells, "
                         "growth. Default: all")  # fmt: skip
    command.add_argument("--repeats", type=int, default=3,
                         help="rounds behind each median. Default: 3")  # fmt: skip
    command.add_argument("--data-dir", type=Path, help="folder that holds MNIST/raw")
    command.add_argument("--to", type=Path, default=RESULTS / "speed.md", metavar="FILE",
                         help="Default: results/speed.md")  # fmt: skip
    command.set_defaults(run=_speed)
    return parser


def _list(_options: argparse.Namespace) -> int:
    from attacks import ATTACKS
    from bench.spec import suites
    from bench.spec.cell import kind_of
    from defenses import DEFENSES
    from fixtures.datasets import DATASETS
    from fixtures.models import MODELS

    for registry in (DATASETS, MODELS, ATTACKS, DEFENSES):
        print(f"{registry.kind}s:")
        for name in registry.names():
            entry = registry[name]
            kind = f" [{kind_of(name)}]" if registry is DEFENSES else ""
            source = f" ({entry.info.source})" if entry.info.source else ""
            print(f"  {name:22}{kind} {entry.summary}{source}")
    print("suites:")
    for suite in suites.named("*"):
        print(f"  {suite.name:22} {suite.about}")
    return 0


def _new(options: argparse.Namespace) -> int:
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


def _report(options: argparse.Namespace) -> int:
    from bench.analysis.series import measured
    from bench.report import leaderboard, pages
    from bench.report.write_up import write_up

    folders = options.results or _folders()
    found = measured(record for folder in folders for record in _records(folder))
    to = options.to or (folders[0] if len(options.results) == 1 else RESULTS)
    embedded = pages.embed(found, options.embed)  # first: a page without markers stops here
    if len(options.results) == 1:
        done = write_up(found, to, pictures=folders[0])
        written = [done.report, *done.tables, *done.figures]
    else:
        written = leaderboard.write(found, to, pictures=folders)
    for path in [*written, *embedded]:
        print(path)
    print(f"{len(found.records)} records of {', '.join(map(str, folders))} -> {to}")
    return 0


def _folders() -> list[Path]:
    from bench.store import records

    found = [folder for folder in sorted(RESULTS.glob("*")) if records.holds_records(folder)]
    committed = [folder for folder in found if folder.name != "latest"]
    if not found:
        raise BenchError(f"{RESULTS}: no folder in it holds records; run `pytest bench` first")
    return committed or found


def _records(folder: Path) -> list[Record]:
    from bench.store import records

    return records.load_all(folder)


def _collect(options: argparse.Namespace) -> int:
    from bench.store.collect import collect

    for line in collect(options.run_folder, options.to):
        print(line)
    return 0


def _accept(options: argparse.Namespace) -> int:
    from bench.analysis import accepted, baseline, gates
    from bench.analysis.series import measured
    from bench.report import comparison

    found = measured(record for folder in options.results for record in _records(folder))
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


def _compare(options: argparse.Namespace) -> int:
    from bench.analysis import accepted, baseline
    from bench.report import comparison

    strict = options.strict_baseline
    found = baseline.compare(accepted.load(options.before), accepted.load(options.after))
    for line in comparison.lines(found):
        print(line)
    print(f"verdict: {comparison.verdict_line(found, strict=strict)}")
    comparison.append_step_summary(comparison.markdown(found, strict=strict))
    return 1 if baseline.failing(found, strict=strict) else 0


def _cache(options: argparse.Namespace) -> int:
    from bench.runtime.workspace import cache_folder
    from bench.store import cache

    folder, limit = cache_folder(), cache.parse_size(options.limit)
    found = cache.entries(folder)
    if options.prune:
        gone = cache.prune(cache.surplus(found, limit))
        print(f"deleted {len(gone)} entries, {cache.show_size(sum(e.size for e in gone))}")
        found = cache.entries(folder)
    for line in cache.lines(folder, found, limit):
        print(line)
    return 0


def _speed(options: argparse.Namespace) -> int:
    from bench import speed

    unknown = [part for part in options.parts if part not in speed.PARTS]
    if unknown:
        raise BenchError(f"unknown part {unknown[0]!r}; known: {', '.join(speed.PARTS)}")
    if options.repeats < 1:
        raise BenchError(f"--repeats: {options.repeats} is not a number of rounds, 1 or more")
    print(speed.measure(options.to, options.data_dir, options.repeats, options.parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
