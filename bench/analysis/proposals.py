"""Regression gates made from records, by one rule.

A gate is where a single new seed would be called regressed against these records: their mean, worse
by what `bench.analysis.baseline.allowance` allows one seed (the tolerance, and the one-sided 99 %
prediction bound of Student's t), rounded away from the mean to a thousandth. So a gate is as loose
as the baseline's rule, and no looser. A bound that no figure could miss is left out: a share that
must be at least 0 or at most 1.

Gated are figures over at least `SEEDS` seeds, of plugins at their defaults and of attacks that
took, in the metrics of `GATED`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.analysis.accepted import Accepted, accepted
from bench.analysis.baseline import allowance, better_of
from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.expected import expectations
from bench.expected.bounds import Bound
from bench.spec.cell import Flavour
from bench.spec.metrics import METRICS

SEEDS = 3
GATED: dict[Flavour, tuple[str, ...]] = {
    "attack": ("clean_accuracy", "asr", "asr_clean_model"),
    "samples": ("f1", "false_labels"),
    "model": ("verdict_correct", "target_found"),
    "inputs": ("auroc", "fpr"),
    "repair": ("clean_accuracy", "asr"),
    "training": ("clean_accuracy", "asr"),
    "certified": ("clean_accuracy", "asr", "certified_accuracy"),
}
"""What a cell is judged by -> the figures that say whether it still does what it is for."""


@dataclass(frozen=True)
class Proposal:
    """The gates of one cell; ``clean`` as in `bench.expected.gate_files.Gates`."""

    dataset: str
    model: str
    attack: str
    defense: str
    clean: int | None
    bounds: list[Bound]


def proposals(measured: Measured) -> list[Proposal]:
    """The gates of every cell that some can be made for. Raises BenchError as `accepted`."""
    taken = Taken(measured)
    plain = [s for s in measured.series if s.cell.uses_defaults and not taken.failure(s)]
    figures = accepted(measured.only(plain))
    found = []
    for series in plain:
        bounds = list(_bounds(series, figures[series.name])) if series.name in figures else []
        if bounds:
            cell = series.cell
            about = (cell.dataset, cell.model, cell.attack, cell.defense)
            found.append(Proposal(*about, series.clean, bounds))
    return found


def _bounds(series: Series, figures: Accepted) -> Iterator[Bound]:
    tolerance = expectations.tolerance(series.cell.dataset)
    for metric in GATED[series.flavour]:
        figure = figures.metrics.get(metric)
        if figure is None or figure.n < SEEDS:
            continue
        allowed = allowance(tolerance[metric], figure, 1)
        if better_of(metric, figures) == "higher":
            limit, direction = _down(figure.mean - allowed), ">="
        else:
            limit, direction = -_down(-figure.mean - allowed), "<="
        if _can_fail(metric, direction, limit):
            yield Bound(metric, direction, limit)


def _down(value: float) -> float:
    return math.floor(round(1000 * value, 6)) / 1000


def _can_fail(metric: str, direction: str, limit: float) -> bool:
    """Of a count there is no most."""
    if direction == ">=":
        return limit > 0
    return limit < 1 or METRICS[metric].unit != "%"
