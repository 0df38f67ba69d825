"""How long victims and cells take: what was measured on this machine before, else a reference.

The reference, ``costs.json`` beside this file, is of another machine: it is scaled by what both
have measured. Nothing but a display depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from bench.runtime import files
from bench.spec.cell import Cell
from fixtures.errors import BenchError

REFERENCE = Path(__file__).with_name("costs.json")
FILE = "costs.json"
"""Its name in the cache."""

Seconds = dict[str, float]
"""What, see `victim_key` and `cell_key` -> seconds."""


class Estimates:
    """``here``: seconds that were measured on this machine; ``learn`` adds to them."""

    def __init__(self, here: Mapping[str, float], reference: Mapping[str, float]) -> None:
        self.here = dict(here)
        self._reference = dict(reference)

    def learn(self, key: str, seconds: float) -> None:
        self.here[key] = seconds

    def seconds(self, key: str) -> float | None:
        """What is known of ``key``, or the median of its likes; None where nothing is known."""
        likes = key.rpartition(" ")[0]
        for known in (self.here, self._scaled()):
            if key in known:
                return known[key]
        for known in (self.here, self._scaled()):
            some = [seconds for other, seconds in known.items() if other.startswith(likes + " ")]
            if some:
                return median(some)
        return None

    def _scaled(self) -> Seconds:
        shared = self.here.keys() & self._reference.keys()
        ratios = [self.here[k] / self._reference[k] for k in shared if self._reference[k] > 0]
        scale = median(ratios) if ratios else 1.0
        return {key: seconds * scale for key, seconds in self._reference.items()}

    def total(
        self, cells: Iterable[Cell], *, done: Iterable[str] = (), ready: Iterable[str] = ()
    ) -> float | None:
        """Seconds for some cells and the victims they need; None where nothing is known of one.

        ``done``: ids of cells that cost nothing, their records are there. ``ready``: victims' ids.
        """
        finished, there, total = set(done), set(ready), 0.0
        for cell in cells:
            if cell.id in finished:
                continue
            victim = cell.undefended
            keys = [cell_key(cell)]
            if victim.id not in there:
                there.add(victim.id)
                keys.append(victim_key(cell))
            for key in keys:
                seconds = self.seconds(key)
                if seconds is None:
                    return None
                total += seconds
        return total


def victim_key(cell: Cell) -> str:
    """Training a victim of the cell's attack."""
    return f"victim {cell.dataset} {cell.model} {cell.attack}"


def cell_key(cell: Cell) -> str:
    """All that a cell takes beside its own victim's training, whatever the attack."""
    return f"{cell.kind} {cell.dataset} {cell.model} {cell.defense}"


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
