"""Timing: contestants in turn, medians of several, and commands in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from tabulate import tabulate

from bench.runtime.environment import CHECKOUT
from fixtures.errors import BenchError

SAMPLED_EVERY_S = 0.05


@dataclass(frozen=True)
class Times:
    """Several timings of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def __str__(self) -> str:
        spread = f"{min(self.seconds):.2f} to {max(self.seconds):.2f}"
        return f"{self.median:.2f} s ({spread})"


def interleaved(
    contestants: Mapping[str, Callable[[int], Any]], repeats: int
) -> tuple[dict[str, Times], dict[str, list[Any]]]:
    """Run every contestant once, then all again: a slow moment of the machine meets them all.

    Each is called with the number of the round, 0 upwards. One that returns a float has timed
    itself; of any other the whole call is timed. Returns the times and what was returned.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    returned: dict[str, list[Any]] = {name: [] for name in contestants}
    for number in range(repeats):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            got = contestant(number)
            took = time.perf_counter() - began
            times[name].append(got if isinstance(got, float) else took)
            returned[name].append(got)
    return {name: Times(tuple(some)) for name, some in times.items()}, returned


@dataclass(frozen=True)
class Child:
    """A command that has run: seconds, and the most memory that it and its children held."""

    seconds: float
    peak_gb: float


def child(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    allowed: Sequence[int] = (0,),
) -> Child:
    """Run a command. Raises BenchError with the end of its output for an exit code not allowed."""
    began = time.perf_counter()
    process = psutil.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0
    while True:
        try:
            output, _ = process.communicate(timeout=SAMPLED_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _resident(process))
    seconds = time.perf_counter() - began
    if process.returncode not in allowed:
        tail = " | ".join(output.strip().splitlines()[-3:])
        raise BenchError(f"{' '.join(command)}: exit code {process.returncode}: {tail}")
    return Child(seconds, peak / 1e9)


def benchmark(scratch: Path, name: str, *arguments: str, **environment: str) -> Child:
    """Run ``pytest bench``. Runs of one name share a cache, empty at first, under ``scratch``.

    A red cell is no failure of the timing: only an exit code that is neither 0 nor 1 raises.
    """
    return child(
        [sys.executable, "-m", "pytest", str(CHECKOUT / "bench"), "-q", f"--rootdir={CHECKOUT}",
         "-p", "no:cacheprovider", f"--results-dir={scratch / f'results {name}'}", *arguments],
        {"TRIGGERBENCH_CACHE": str(scratch / f"cache {name}"), **environment},
        allowed=(0, 1),
    )  # fmt: skip


def mnist(data: Path | None) -> list[str]:
    """The options that choose MNIST."""
    return ["--dataset", "mnist", *(["--data-dir", str(data)] if data else [])]


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # ended meanwhile
        pass
    return total


@contextmanager
def stopwatch(stages: Mapping[str, tuple[Any, str]]) -> Iterator[dict[str, float]]:
    """Seconds spent in functions while the block runs: name -> (owner, attribute)."""
    spent = dict.fromkeys(stages, 0.0)
    kept = {name: getattr(owner, attribute) for name, (owner, attribute) in stages.items()}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - began

        return wrapper

    try:
        for name, (owner, attribute) in stages.items():
            setattr(owner, attribute, timed(name, kept[name]))
        yield spent
    finally:
        for name, (owner, attribute) in stages.items():
            setattr(owner, attribute, kept[name])


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as lines of a Markdown table."""
    text: str = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    return text.splitlines()
