"""The whole MNIST cross, cold and warm, in one process and by workers; and how it starts."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench.environment import CHECKOUT
from bench.speed.clock import Child, child, interleaved, table


def measure(data: Path | None, repeats: int) -> list[str]:
    """Each run has a cache of its own; the warm one follows the cold one in it."""
    with tempfile.TemporaryDirectory() as scratch:
        return _measure(data, repeats, Path(scratch))


def _measure(data: Path | None, repeats: int, scratch: Path) -> list[str]:
    mnist = ["--dataset", "mnist", *(["--data-dir", str(data)] if data else [])]

    def run(cache: str, *arguments: str) -> Callable[[int], Child]:
        def once(number: int) -> Child:
            return child(
                [sys.executable, "-m", "pytest", str(CHECKOUT / "bench"), "-q", *mnist,
                 f"--rootdir={CHECKOUT}", "-p", "no:cacheprovider",
                 f"--results-dir={scratch / f'results {cache} {number}'}", *arguments],
                TRIGGERBENCH_CACHE=str(scratch / f"cache {cache} {number}"),
            )  # fmt: skip

        return once

    contestants = {
        "`import torch`": lambda _: child([sys.executable, "-c", "import torch"]),
        "`python -m bench list --help`": lambda _: child(
            [sys.executable, "-m", "bench", "list", "--help"]
        ),
        "`pytest bench --collect-only`": run("serial", "--collect-only"),
        "the cross, cold": run("serial"),
        "the cross, warm": run("serial"),
    }
    if find_spec("xdist") is not None:
        contestants["the cross, cold, `-n 2`"] = run("workers", "-n", "2")
        contestants["the cross, warm, `-n 2`"] = run("workers", "-n", "2")
    times, runs = interleaved(contestants, repeats)
    rows = [
        {
            "command": name,
            "time": str(times[name]),
            "peak memory": f"{median(one.peak_gb for one in runs[name]):.2f} GB",
        }
        for name in contestants
    ]
    beyond = times["`pytest bench --collect-only`"].median - times["`import torch`"].median
    lines = [
        "`pytest bench --dataset mnist`, 15 cells, one seed. Memory is resident, of the process "
        "and its children together.",
        "",
        *table(rows),
        "",
        f"Collection takes {beyond:.2f} s beyond importing torch.",
    ]
    if len(runs) > 5:
        lines += ["", _same_tables(scratch, repeats)]
    return lines


def _same_tables(scratch: Path, repeats: int) -> str:
    def tables(kind: str) -> list[dict[str, str]]:
        return [
            {path.name: path.read_text() for path in folder.glob("*.csv")}
            for folder in (scratch / f"results {kind} {number}" for number in range(repeats))
        ]

    same = tables("serial") == tables("workers")
    return f"Tables of `-n 2` and of the serial runs, compared as text: {_say(same)}."


def _say(same: bool) -> str:
    return "identical" if same else "DIFFERENT"
