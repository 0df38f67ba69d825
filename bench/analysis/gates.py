"""The thresholds that must hold, read from ``gates.toml``; a cell without one is not gated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from bench.store.records import Record
from fixtures.errors import BenchError

FILE = Path(__file__).with_name("gates.toml")


@dataclass(frozen=True)
class Gate:
    """``metric`` must be at least (``>=``) or at most (``<=``) ``bound``; ``value`` is measured.

    None where it was not measured: the gate is missed.
    """

    metric: str
    direction: str
    bound: float
    value: float | None

    @property
    def passed(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.bound if self.direction == ">=" else self.value <= self.bound

    def __str__(self) -> str:
        show = METRICS[self.metric].show
        unit = " %" if METRICS[self.metric].unit == "%" else ""
        missed = "" if self.passed else "misses its gate: "
        measured = "was not measured" if self.value is None else f"is {show(self.value)}{unit}"
        return (
            f"{self.metric} {missed}{measured}, must be {self.direction} {show(self.bound)}{unit}"
        )


Verdict = Literal["pass", "fail", "not gated", "not applicable"]


def judged(records: Sequence[Record]) -> list[Gate]:
    """The gates of records of one series: each bound against the mean of what was measured.

    None where the defense does not apply. Raises BenchError for a bound that says nothing.
    """
    measured = [record for record in records if not record.not_applicable]
    if not measured:
        return []
    names = dict.fromkeys(name for record in measured for name in record.metrics)
    means = {
        name: fmean(record.metrics[name] for record in measured if name in record.metrics)
        for name in names
    }
    return judge(measured[0].cell, means)


def verdict(group: Sequence[Record]) -> Verdict:
    """Whether records of one series meet their gates, by their mean."""
    if all(record.not_applicable for record in group):
        return "not applicable"
    gates = judged(group)
    if not gates:
        return "not gated"
    return "pass" if all(gate.passed for gate in gates) else "fail"


def judge(cell: Cell, metrics: Mapping[str, float], file: Path | None = None) -> list[Gate]:
    """The cell's gates with what was measured."""
    file = file or FILE
    if not cell.uses_defaults:
        return []
    table = _read(file)
    for name in (cell.dataset, cell.model, cell.attack, cell.defense):
        table = table.get(name, {})
    gates = []
    for metric, text in table.items():
        direction, bound = _parse(file, cell, metric, text)
        gates.append(Gate(metric, direction, bound, metrics.get(metric)))
    return gates


def _parse(file: Path, cell: Cell, metric: str, text: Any) -> tuple[str, float]:
    match = re.fullmatch(r"(>=|<=)\s*(\d+(?:\.\d+)?)", str(text))
    if match is None or metric not in METRICS:
        raise BenchError(
            f'{file.name}: {cell.id}: {metric} = {text!r}, expected ">= 0.9" or the like'
        )
    return match[1], float(match[2])


_read = lru_cache(maxsize=8)(files.read_toml)
