"""The points along an axis of the cross: poison rates, clean budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.spec.cell import level_of

Point = dict[str, Any]
"""``study attack kind defense seeds``, the axis under its own name, and metrics as `Estimate`."""


def by_study(points: Iterable[Point], axis: str) -> dict[str, list[Point]]:
    """Data set and model -> its points in the order of tables.

    Only of attacks with two values of ``axis`` or more.
    """
    found = sorted(
        points, key=lambda p: (p["defense"], level_of(p["attack"]), p["attack"], p[axis])
    )
    values: dict[tuple[str, str], set[Any]] = {}
    for point in found:
        values.setdefault((point["study"], point["attack"]), set()).add(point[axis])
    studies: dict[str, list[Point]] = {}
    for point in found:
        if len(values[point["study"], point["attack"]]) > 1:
            studies.setdefault(point["study"], []).append(point)
    return studies
