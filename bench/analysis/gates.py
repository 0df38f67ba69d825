"""Whether records keep their gates: judged when they are read, by mean over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.frame import flavour
from bench.analysis.nulls import is_null
from bench.analysis.statistics import estimate
from bench.expected import expectations
from bench.expected.bounds import Bound
from bench.expected.gate_files import gates as of_cell
from bench.spec.metrics import METRICS, took
from bench.store.records import Record

Verdict = Literal["pass", "fail", "not gated", "not applicable"]


@dataclass(frozen=True)
class Gate:
    """A bound, and the ``value`` that was measured; None where none was: the gate is missed."""

    bound: Bound
    value: float | None

    @property
    def passed(self) -> bool:
        return self.value is not None and self.bound.holds(self.value)

    def __str__(self) -> str:
        metric = METRICS[self.bound.metric]
        unit = " %" if metric.unit == "%" else ""
        missed = "" if self.passed else "misses its gate: "
        measured = (
            "was not measured" if self.value is None else f"is {metric.show(self.value)}{unit}"
        )
        return f"{metric.name} {missed}{measured}, must be {self.bound}"


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
    return [Gate(bound, means.get(bound.metric)) for bound in _bounds(measured[0], means)]


def verdict(group: Sequence[Record]) -> Verdict:
    """Whether records of one series meet their gates, by their mean. Raises as `judged`."""
    if all(record.not_applicable for record in group):
        return "not applicable"
    gates = judged(group)
    if not gates:
        return "not gated"
    return "pass" if all(gate.passed for gate in gates) else "fail"


def _bounds(record: Record, means: Mapping[str, float]) -> list[Bound]:
    """What a record's cell must keep; nothing with plugins at other parameters than their own, nor
    on images for choices.

    Its regression gates, if it has any: one on a metric that is not among the ``means`` is missed.
    Else, if no data set's file knows it and it is at the default budget of clean images, the
    default bounds of its kind on the metrics that are, unless the attack did not take.
    """
    cell = record.cell
    if not cell.uses_defaults or cell.split != "test":
        return []
    gates = of_cell(cell.dataset, cell.model, cell.attack, cell.defense, record.clean)
    if gates:
        return gates
    if not expectations.is_known(cell) and _has_default_bounds(record, means):
        bounds = expectations.default_bounds(flavour(record.kind, means))
        return [bound for bound in bounds if bound.metric in means]
    return []


def _has_default_bounds(record: Record, means: Mapping[str, float]) -> bool:
    """An attack's own figures have, a clean model's have not; a defense's if the attack took and it
    is no null baseline, which is there to be beaten.
    """
    cell = record.cell
    if record.kind == "attack":
        return cell.attack != "none"
    null = is_null(cell.defense)
    return not null and cell.clean is None and took(cell.attack, means)
