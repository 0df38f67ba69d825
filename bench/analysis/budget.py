"""What each defense makes of fewer and of more clean images: the points of the budget axis."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.analysis.axis import Point, by_study
from bench.analysis.frame import with_params
from bench.analysis.nulls import is_null
from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.spec.cell import Kind, sees
from defenses import DEFENSES

SHOWN: dict[Kind, list[str]] = {
    "detection": ["f1", "auroc", "verdict_correct"],
    "repair": ["der", "asr", "clean_accuracy"],
    "training": ["der", "asr", "clean_accuracy"],
}
"""Kind of defense -> the metrics of its tables and panels."""


def points(measured: Measured) -> dict[str, list[Point]]:
    """Data set and model -> a point for each attack, clean budget and defense.

    ``budget``: images of each class, infinite for the whole clean split; ``null``: whether the
    defense is a null baseline; ``backdoor``: that the attack did not take, if so. A defense that
    sees no clean image has its one figure at every budget of the attack. Only attacks with two
    budgets or more are in it, and no clean model.
    """
    taken = Taken(measured)
    chosen: dict[tuple[str, ...], tuple[Series, Point]] = {}
    for series in measured.of_one_identity.series:
        if series.kind in SHOWN and series.figures and series.cell.attack != "none":
            point = _point(series, taken)
            where = tuple(str(point[name]) for name in ("study", "attack", "defense", "budget"))
            if where not in chosen or len(chosen[where][0].records) < len(series.records):
                chosen[where] = series, point
    return by_study(_everywhere([point for _, point in chosen.values()]), "budget")


def _point(series: Series, taken: Taken) -> Point:
    cell = series.cell
    return {
        "study": " / ".join(series.study),
        "attack": series.attack,
        "budget": math.inf if series.clean is None else series.clean,
        "kind": series.kind,
        "defense": with_params(cell.defense, cell.defense_params),
        "null": is_null(cell.defense),
        "blind": cell.defense in DEFENSES and "clean" not in sees(cell.defense).split(", "),
        "backdoor": taken.failure(series),
        "seeds": len(series.records),
        **{m: series.figures[m] for m in SHOWN[series.kind] if m in series.figures},
    }


def _everywhere(points: Iterable[Point]) -> Iterable[Point]:
    """Points of defenses that see no clean image, once at each budget of their attack."""
    found = list(points)
    for point in found:
        same = ("study", "attack", "kind")
        budgets = {p["budget"] for p in found
                   if not p["blind"] and all(p[name] == point[name] for name in same)}  # fmt: skip
        for budget in budgets if point["blind"] else [point["budget"]]:
            yield {**point, "budget": budget}
