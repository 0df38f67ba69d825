"""How long victims and cells take: what was measured on this machine before, else a reference.

The reference, ``costs.json`` beside this file, is of another machine: it is scaled by what both
have measured. Nothing but a display depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from statistics import median

from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.job import Job
from fixtures.errors import BenchError

REFERENCE = Path(__file__).with_name("costs.json")
FILE = "costs.json"
"""Its name in the cache."""

Seconds = dict[str, float]
"""Task, see `victim_task` and `cell_task` -> seconds."""


class Estimates:
    """``here``: seconds that were measured on this machine; ``learn`` adds to them."""

    def __init__(self, here: Mapping[str, float], reference: Mapping[str, float]) -> None:
        self.here = dict(here)
        self._reference = dict(reference)
        self._scaled: Seconds | None = None

    def learn(self, task: str, seconds: float) -> None:
        """Another thread may read meanwhile: it goes on with what was known."""
        self.here = {**self.here, task: seconds}
        self._scaled = None

    def seconds(self, task: str) -> float | None:
        """What is known of a task, or the median of its likes; None where nothing is known."""
        likes = task.rpartition(" ")[0]
        for known in (self.here, self._expected()):
            if task in known:
                return known[task]
        for known in (self.here, self._expected()):
            some = [seconds for other, seconds in known.items() if other.startswith(likes + " ")]
            if some:
                return median(some)
        return None

    def _expected(self) -> Seconds:
        """The reference, scaled to this machine."""
        if self._scaled is None:
            self._scaled = self._rescaled()
        return self._scaled

    def _rescaled(self) -> Seconds:
        shared = self.here.keys() & self._reference.keys()
        ratios = [self.here[k] / self._reference[k] for k in shared if self._reference[k] > 0]
        scale = median(ratios) if ratios else 1.0
        return {key: seconds * scale for key, seconds in self._reference.items()}

    def total(
        self, jobs: Iterable[Job], *, done: Set[str] = frozenset(), ready: Set[str] = frozenset()
    ) -> float | None:
        """Seconds for some jobs and the victims they need; None where nothing is known of one.

        ``done``: keys of jobs that cost nothing, their records are there. ``ready``: of victims.
        """
        there, total = set(ready), 0.0
        for job in jobs:
            if job.key in done:
                continue
            tasks = [cell_task(job.cell)]
            if job.victim.key not in there:
                there.add(job.victim.key)
                tasks.append(victim_task(job.cell))
            for task in tasks:
                seconds = self.seconds(task)
                if seconds is None:
                    return None
                total += seconds
        return total


def victim_task(cell: Cell) -> str:
    """Training a victim of the cell's attack."""
    return f"victim {cell.data_name} {cell.model_name} {cell.attack}"


def cell_task(cell: Cell) -> str:
    """All that a cell takes beside its own victim's training, whatever the attack."""
    return f"{cell.kind} {cell.data_name} {cell.model_name} {cell.defense}"


def load(cache: Path) -> Estimates:
    """What the cache knows, on top of the reference. A file that is damaged counts as none."""
    return Estimates(_read(cache / FILE), load_reference())


def load_reference() -> Seconds:
    """What another machine took, written by ``python -m bench speed first``."""
    return _read(REFERENCE)


def save(cache: Path, estimates: Estimates) -> None:
    """Keep what was learned; where that cannot be written, the next run knows less."""
    try:
        files.write(cache / FILE, json.dumps(estimates.here, indent=1, sort_keys=True) + "\n")
    except BenchError:
        return


def _read(path: Path) -> Seconds:
    try:
        return {str(key): float(seconds) for key, seconds in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def clock(seconds: float) -> str:
    """``8 s``, ``4 min``, ``1 h 10 min``: to a precision that an estimate has."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
