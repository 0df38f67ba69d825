"""Whether records meet what is expected of them: judged when they are read, by mean over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.frame import flavour
from bench.analysis.statistics import estimate
from bench.expected import expectations
from bench.spec.cell import Cell, Kind
from bench.spec.metrics import METRICS, took
from bench.store.records import Record

Verdict = Literal["pass", "fail", "not gated", "not applicable"]


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


def judged(records: Sequence[Record]) -> list[Gate]:
    """The gates of records of one series: each bound against the mean of what was measured.

    Empty where the defense does not apply. Raises BenchError for a bound that says nothing.
    """
    measured = [record for record in records if not record.not_applicable]
    if not measured:
        return []
    names = dict.fromkeys(name for record in measured for name in record.metrics)
    means = {
        name: estimate([r.metrics[name] for r in measured if name in r.metrics]).mean
        for name in names
    }
    return judge(measured[0].cell, measured[0].kind, means)


def verdict(group: Sequence[Record]) -> Verdict:
    """Whether records of one series meet their gates, by their mean. Raises as `judged`."""
    if all(record.not_applicable for record in group):
        return "not applicable"
    gates = judged(group)
    if not gates:
        return "not gated"
    return "pass" if all(gate.passed for gate in gates) else "fail"


def judge(cell: Cell, kind: Kind, means: Mapping[str, float]) -> list[Gate]:
    """The gates of a cell with plugins at their defaults; other parameters are not gated.

    A cell that its data set's file knows has those written there: one on a metric that is not among
    the ``means`` is missed. Any other has the default bounds of its kind on the metrics that are,
    unless the attack did not take.
    """
    if not cell.uses_defaults:
        return []
    if expectations.is_known(cell):
        bounds = expectations.gates(cell)
    elif _has_default_bounds(cell, kind, means):
        default = expectations.default_bounds(flavour(kind, means))
        bounds = [bound for bound in default if bound.metric in means]
    else:
        return []
    return [Gate(b.metric, b.direction, b.limit, means.get(b.metric)) for b in bounds]


def _has_default_bounds(cell: Cell, kind: Kind, means: Mapping[str, float]) -> bool:
    """An attack's own figures have, a clean model's have not; a defense's if the attack took."""
    if kind == "attack":
        return cell.attack != "none"
    return took(cell.attack, means)
