"""What a cluster costs on one machine: the same cells serial and with ``--executor ray``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.speed.clock import benchmark, interleaved, table

WHOLE, ONE = "`pytest bench --dataset digits`", "one cell of it"
ON_RAY = ", `--executor ray`"


def measure(data: Path | None, repeats: int) -> list[str]:  # noqa: ARG001 - digits come along
    """The study on digits, 30 cells on one slot of as many threads as the serial run, cold; one
    cell alone tells what starting and ending Ray takes."""
    contestants = {
        f"{name}{where}": _run(*cells, *executor)
        for name, cells in ((WHOLE, ()), (ONE, ("--attack", "none", "--defense", "none")))
        for where, executor in (("", ()), (ON_RAY, ("--executor", "ray")))
    }
    times, _ = interleaved(contestants, repeats)
    seconds = {name: took.seconds for name, took in times.items()}
    starts, more = [], []
    for round in range(repeats):
        start = seconds[f"{ONE}{ON_RAY}"][round] - seconds[ONE][round]
        starts.append(start)
        more.append((seconds[f"{WHOLE}{ON_RAY}"][round] - start) / seconds[WHOLE][round] - 1)
    return [
        "Each from an empty cache, in processes of their own, start-up and write-up included, with "
        f"as many threads. Starting and ending Ray takes {median(starts):.1f} s; beside that the "
        f"cluster takes {100 * median(more):.1f} % longer ({100 * min(more):.1f} to "
        f"{100 * max(more):.1f}; goal: 10).",
        "",
        *table([{"what": name, "time": str(took)} for name, took in times.items()]),
    ]


def _run(*arguments: str) -> Callable[[int], Any]:
    def once(_: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return benchmark(Path(scratch), "all", "--dataset", "digits", *arguments).seconds

    return once
