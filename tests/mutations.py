"""Deliberate faults, each of which must turn some test red: who tests the tests?

    python tests/mutations.py                 every fault, one on each core at a time
    python tests/mutations.py "gate*"         some of them
    python tests/mutations.py --to FILE       write the score as a Markdown table as well; of some
                                              faults, their rows: the others' stay as they stand

Each fault of mutations.toml is put into a copy of the checkout, and the tests that should notice
run there. The same tests run first without any fault: what is red by itself proves nothing. A place
is found by the name of its function and by its syntax tree; a fault whose place is not found
exactly once ends the run before anything else, with a line that says what was looked for. A fault
that nobody notices is told. The exit code is 1 in all three cases.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import accumulate
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "results", "*.egg-info")
"""Of the checkout, what no copy needs."""


@dataclass(frozen=True)
class Fault:
    """In the definition ``where``, ``right`` becomes ``wrong``; ``tests`` should notice."""

    name: str
    where: str
    right: str
    wrong: str
    tests: str


FAULTS = [
    Fault(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["fault"]
]


class Unusable(Exception):
    """Why a fault or its tests prove nothing, in one line."""


@dataclass(frozen=True)
class Definition:
    """A function or class: ``module`` and ``name`` as in ``bench.sums`` and ``Sum.of``."""

    path: Path
    module: tuple[str, ...]
    name: tuple[str, ...]
    node: ast.AST

    def is_called(self, where: str) -> bool:
        """Whether ``where`` is its package and name, with or without the modules between."""
        package, *rest = where.split(".")
        return (
            package == self.module[0]
            and len(rest) >= len(self.name)
            and [*self.module[1:], *self.name][-len(rest) :] == rest
        )


@dataclass(frozen=True)
class Place:
    """Bytes ``start`` to ``end`` of a file, which are one node of its syntax tree."""

    path: Path
    start: int
    end: int


def place_of(fault: Fault, checkout: Path) -> Place:
    """Where the fault's right source stands. Raises Unusable where that is not one place."""
    package = fault.where.partition(".")[0]
    named = [d for d in definitions(checkout, package) if d.is_called(fault.where)]
    if not named:
        raise Unusable(f"{fault.name}: nothing is called {fault.where}")
    wanted = _node(fault.right)
    looks = ast.dump(wanted)
    found = {
        _span(definition.path, node)
        for definition in named
        for node in ast.walk(definition.node)
        if isinstance(node, type(wanted)) and ast.dump(node) == looks
    }
    if len(found) != 1:
        files = ", ".join(sorted({str(d.path.relative_to(checkout)) for d in named}))
        source = " ".join(fault.right.split())
        raise Unusable(
            f"{fault.name}: {fault.where} ({files}) holds it {len(found)} times: {source}"
        )
    return found.pop()


@cache
def definitions(checkout: Path, package: str) -> Sequence[Definition]:
    """Every function and class in all modules of a package, those within others too."""

    def within(
        path: Path, module: tuple[str, ...], name: tuple[str, ...], node: ast.AST
    ) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*name, child.name)
                yield Definition(path, module, inner, child)
            yield from within(path, module, inner, child)

    found: list[Definition] = []
    for path in sorted((checkout / package).rglob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError as error:
            raise Unusable(f"{path.relative_to(checkout)}: {error}") from error
        module = path.relative_to(checkout).with_suffix("").parts
        module = module[:-1] if module[-1] == "__init__" else module
        found.extend(within(path, module, (), tree))
    return found


def _node(source: str) -> ast.expr | ast.stmt:
    """The expression or the one statement that ``source`` is."""
    (statement,) = ast.parse(textwrap.dedent(source).strip()).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _span(path: Path, node: ast.expr | ast.stmt) -> Place:
    lines = [0, *accumulate(len(line) for line in path.read_bytes().splitlines(keepends=True))]
    return Place(
        path,
        lines[node.lineno - 1] + node.col_offset,
        lines[node.end_lineno - 1] + node.end_col_offset,
    )


def faulty(fault: Fault, place: Place) -> str:
    """The file's text with the wrong source instead of the right one; all else is as it was.

    An expression gets parentheses, so that it stays one whatever stands around it; a statement's
    further lines get its indentation.
    """
    text = place.path.read_bytes()
    wrong = textwrap.dedent(fault.wrong).strip()
    if isinstance(_node(fault.right), ast.expr):
        wrong = f"({wrong})"
    else:
        column = place.start - (text.rfind(b"\n", 0, place.start) + 1)
        wrong = textwrap.indent(wrong, " " * column).lstrip()
    return (text[: place.start] + wrong.encode() + text[place.end :]).decode()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["*"], help="globs of faults. Default: all")
    parser.add_argument("--to", type=Path, help="write the score there, as Markdown")
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="how many to try at a time, with one thread each. Default: one for each core",
    )
    options = parser.parse_args(arguments)
    chosen = [f for f in FAULTS if any(fnmatchcase(f.name, glob) for glob in options.names)]
    if not chosen:
        parser.error(f"no fault is called {' or '.join(options.names)}")
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"  # what changes meanwhile changes nothing here
        shutil.copytree(CHECKOUT, checkout, ignore=LEFT_OUT)
        try:
            rows = judge(chosen, checkout, options.jobs)
        except Unusable as why:
            print(why)
            return 1
    caught = sum(first_red is not None for *_, first_red in rows)
    print(f"score: {caught} of {len(rows)} faults noticed")
    if options.to:
        kept = {} if len(chosen) == len(FAULTS) else table_of(options.to)
        options.to.write_text("\n".join(markdown({**kept, **table(rows)})))
    return 0 if caught == len(rows) else 1


NOTICED, MISSED = "noticed", "**not noticed**"

Row = tuple[Fault, str, "str | None"]
"""A fault, the file that it is in, and the first test that was red."""


def judge(faults: Sequence[Fault], checkout: Path, jobs: int = 1) -> list[Row]:
    """Run each fault's tests. Raises Unusable, before any test runs where places are not found."""
    places = located(faults, checkout)
    selections = list(dict.fromkeys(fault.tests for fault in faults))
    one_thread = {"OMP_NUM_THREADS": "1"} if jobs > 1 else {}
    pool = ThreadPoolExecutor(jobs)
    try:
        without = pool.map(lambda tests: first_red_test(checkout, tests, one_thread), selections)
        for tests, red in zip(selections, without, strict=True):
            if red:
                raise Unusable(f"red without any fault, which proves nothing: {tests}: {red}")

        def noticed(fault: Fault, place: Place) -> str | None:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "checkout"
                shutil.copytree(checkout, copy)
                (copy / place.path.relative_to(checkout)).write_text(faulty(fault, place))
                return first_red_test(copy, fault.tests, one_thread)

        rows = []
        verdicts = pool.map(noticed, faults, places)
        for fault, place, red in zip(faults, places, verdicts, strict=True):
            rows.append((fault, place.path.relative_to(checkout).as_posix(), red))
            print(f"{'noticed' if red else 'NOT NOTICED':12} {fault.name}", flush=True)
        return rows
    finally:
        pool.shutdown(cancel_futures=True)


def located(faults: Iterable[Fault], checkout: Path) -> list[Place]:
    """The place of each fault. Raises Unusable with a line for every one that has none."""
    places, lost = [], []
    for fault in faults:
        try:
            places.append(place_of(fault, checkout))
        except Unusable as why:
            lost.append(str(why))
    if lost:
        raise Unusable("\n".join(dict.fromkeys(lost)))
    return places


def first_red_test(checkout: Path, tests: str, environment: dict[str, str]) -> str | None:
    """The first test that is red, or None. Raises Unusable where no test came to a verdict."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)],
        cwd=checkout,
        env={**os.environ, **environment, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return None
    red = re.search(r"^(?:FAILED|ERROR) (\S+::[^\s\[]+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not red:  # not a test that failed, but no test at all
        raise Unusable(f"{tests}: {done.stdout[-800:]}{done.stderr[-800:]}")
    return red[1]


def table(rows: Sequence[Row]) -> dict[str, str]:
    """Fault's name -> its line."""
    found = {}
    for fault, file, red in rows:
        test, verdict = (f"`{red}`", NOTICED) if red else (f"`{fault.tests}`", MISSED)
        found[fault.name] = f"| {fault.name} | `{fault.where}` in {file} | {test} | {verdict} |"
    return found


def table_of(page: Path) -> dict[str, str]:
    """What `table` gave when the page was written; empty where there is none."""
    lines = page.read_text().splitlines() if page.exists() else []
    rows = [line for line in lines if line.endswith((f"| {NOTICED} |", f"| {MISSED} |"))]
    return {line.split(" | ")[0].removeprefix("| "): line for line in rows}


def markdown(lines: Mapping[str, str]) -> Iterator[str]:
    """The page, of the faults that there are, in their order."""
    found = [lines[fault.name] for fault in FAULTS if fault.name in lines]
    yield "# Deliberate faults"
    yield ""
    noticed = sum(line.endswith(f"| {NOTICED} |") for line in found)
    yield f"{noticed} of {len(found)} are noticed by the tests."
    yield "Made by `python tests/mutations.py --to results/mutations.md`, the rows of new and moved"
    yield "faults by the same command with their names."
    yield ""
    yield "| fault | where | first red test | |"
    yield "| --- | --- | --- | --- |"
    yield from found
    yield ""


if __name__ == "__main__":
    sys.exit(main())
