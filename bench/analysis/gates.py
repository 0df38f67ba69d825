"""The thresholds that must hold, read from ``gates.toml``; a cell without one is not gated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from fixtures.errors import BenchError

FILE = Path(__file__).with_name("gates.toml")


@dataclass(frozen=True)
class Gate:
    """``metric`` must be at least (``>=``) or at most (``<=``) ``bound``; ``value`` is measured."""

    metric: str
    direction: str
    bound: float
    value: float

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.direction == ">=" else self.value <= self.bound

    def __str__(self) -> str:
        show = METRICS[self.metric].show
        unit = " %" if METRICS[self.metric].unit == "%" else ""
        word = "is" if self.passed else "misses its gate: is"
        return (
            f"{self.metric} {word} {show(self.value)}{unit}, "
            f"must be {self.direction} {show(self.bound)}{unit}"
        )


def over_seeds(seeds: Sequence[Sequence[Gate]]) -> list[Gate]:
    """The gates of one cell over its seeds: each bound against the mean of what was measured.

    Records outlive a change of the gates, so seeds may have been judged by different ones.
    """
    values: dict[Gate, list[float]] = {}
    for gate in (gate for gates in seeds for gate in gates):
        values.setdefault(replace(gate, value=0.0), []).append(gate.value)
    return [replace(gate, value=fmean(found)) for gate, found in values.items()]


def judge(cell: Cell, metrics: Mapping[str, float], file: Path = FILE) -> list[Gate]:
    """The cell's gates with what was measured. A gated metric that was not measured raises."""
    if not cell.uses_defaults:
        return []
    table = _read(file)
    for name in (cell.dataset, cell.model, cell.attack, cell.defense):
        table = table.get(name, {})
    gates = []
    for metric, text in table.items():
        direction, bound = _parse(file, cell, metric, text)
        if metric not in metrics:
            raise BenchError(f"{file.name}: {cell.id} is gated on {metric!r}, which it lacks")
        gates.append(Gate(metric, direction, bound, metrics[metric]))
    return gates


def _parse(file: Path, cell: Cell, metric: str, text: Any) -> tuple[str, float]:
    match = re.fullmatch(r"(>=|<=)\s*(\d+(?:\.\d+)?)", str(text))
    if match is None or metric not in METRICS:
        raise BenchError(
            f'{file.name}: {cell.id}: {metric} = {text!r}, expected ">= 0.9" or the like'
        )
    return match[1], float(match[2])


_read = lru_cache(maxsize=8)(files.read_toml)
