"""The study's own MNIST cross, cold and warm, in one process and by workers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench.analysis.completeness import NAMES
from bench.speed.clock import Child, benchmark, interleaved, mnist, table


def measure(data: Path | None, repeats: int) -> list[str]:
    """Each run has a cache of its own; the warm one follows the cold one in it."""
    with tempfile.TemporaryDirectory() as scratch:
        return _measure(data, repeats, Path(scratch))


def _measure(data: Path | None, repeats: int, scratch: Path) -> list[str]:
    def run(kind: str, *arguments: str) -> Callable[[int], Child]:
        return lambda number: benchmark(scratch, f"{kind} {number}", *mnist(data), *arguments)

    contestants = {
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
    return [
        "`pytest bench --dataset mnist`, the suite study, one seed. Memory is "
        "resident, of the process and its children together.",
        "",
        *table(rows),
        *(["", _same_tables(scratch, repeats)] if len(runs) > 2 else []),
    ]


def _same_tables(scratch: Path, repeats: int) -> str:
    def tables(kind: str) -> list[dict[str, str]]:
        return [
            {name: (folder / f"{name}.csv").read_text() for name in NAMES.values()}
            for folder in (scratch / f"results {kind} {number}" for number in range(repeats))
        ]

    same = "identical" if tables("serial") == tables("workers") else "DIFFERENT"
    return f"Tables of `-n 2` and of the serial runs, compared as text: {same}."
