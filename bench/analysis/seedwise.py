"""Figures seed by seed: what means over several cells and paired differences are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.analysis.series import Measured
from bench.analysis.statistics import Estimate, estimate, total

Value = tuple[float, int | None]
"""A figure, and how many were counted for it; see `bench.analysis.statistics.Estimate`."""
BySeed = Mapping[int, Value]


def by_seed(study: Measured) -> dict[tuple[int, str], dict[int, Value]]:
    """The ``number`` of a series and a metric -> seed -> its value."""
    found: dict[tuple[int, str], dict[int, Value]] = {}
    frame = study.frame.dropna(subset="value")
    columns = (frame[name] for name in ("number", "metric", "seed", "value", "trials"))
    for number, metric, seed, value, trials in zip(*columns, strict=True):
        found.setdefault((number, metric), {})[seed] = (value, total([trials]))
    return found


def mean(cells: Sequence[BySeed]) -> BySeed:
    """The mean over several cells of each seed that all of them have."""
    seeds = set.intersection(*(set(cell) for cell in cells)) if cells else set()
    return {
        seed: (
            math.fsum(cell[seed][0] for cell in cells) / len(cells),
            total(cell[seed][1] for cell in cells),
        )
        for seed in sorted(seeds)
    }


def over_seeds(figures: BySeed) -> Estimate | None:
    """None of no seed at all."""
    if not figures:
        return None
    values, trials = zip(*figures.values(), strict=True)
    return estimate(values, total(trials))
