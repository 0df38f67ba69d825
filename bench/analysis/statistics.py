"""Means over seeds and their 95 % intervals: the one place where figures are averaged.

A share (of images, samples or models) is a mean of seeds that were themselves counted. Its interval
is Clopper and Pearson's for the effective number of trials (Korn and Graubard 1998, Survey
Methodology 24:193): as many as would vary like the mean over seeds does, corrected for how few
seeds tell its variance, and never more than were counted. It stays within 0 and 1, is no point
where all seeds agree, and of one seed it is the interval of the images alone. What is no share has
Student's t over seeds.

``python -m bench.calibration.coverage`` simulates how often intervals hold the truth.
docs/metrics.md has what it found, and why no bootstrap over seeds is taken: at 3 seeds its 95 %
hold the truth 3 times in 4.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd
from scipy.stats import beta, norm
from scipy.stats import t as student_t

CONFIDENCE = 0.95
NOTE = "Means over seeds with 95 % intervals; with one seed it is the interval of its images alone."

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """Mean and ``spread`` (standard deviation) over ``n`` seeds; one seed has no spread.

    ``trials``: how many images, samples or models were counted in all seeds together; 0 for a share
    of unknown number, None for what is no share.
    """

    mean: float
    spread: float | None
    n: int
    trials: int | None = None

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean; None where nothing tells how sure it is."""
        if self.trials is None:
            half = t_half(self)
            return (self.mean - half, self.mean + half) if half else None
        number = effective_trials(self)
        return None if math.isinf(number) else clopper_pearson(self.mean, number)


def t_half(figure: Estimate) -> float | None:
    """Half of Student's 95 % interval of the mean over seeds; None for one seed."""
    if figure.spread is None:
        return None
    return quantile((1 + CONFIDENCE) / 2, figure.n - 1) * figure.spread / math.sqrt(figure.n)


def effective_trials(figure: Estimate) -> float:
    """Independent trials whose share would be as sure as this mean over seeds.

    Infinite where the seeds agree and nobody counted.
    """
    most = figure.trials or math.inf
    half = t_half(figure)
    if not half:
        return most
    normal = float(norm.ppf((1 + CONFIDENCE) / 2))
    return min(most, figure.mean * (1 - figure.mean) * (normal / half) ** 2)


@lru_cache(maxsize=4096)
def clopper_pearson(share: float, trials: float) -> Interval:
    """The exact 95 % interval of a share of so many trials, which need not be a whole number."""
    hits, misses, tail = share * trials, (1 - share) * trials, (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(beta.isf(tail, hits + 1, misses)) if misses > 0 else 1.0
    return min(low, share), max(high, share)


@lru_cache(maxsize=1024)
def quantile(share: float, freedom: int) -> float:
    """Of Student's t with ``freedom`` degrees of freedom."""
    return float(student_t.ppf(share, freedom))


def estimate(values: Sequence[float], trials: int | None = None) -> Estimate:
    """Of plain values, summed exactly; ``trials``: see `Estimate`. ValueError for no values."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to average")
    return Estimate(math.fsum(values) / n, statistics.stdev(values) if n > 1 else None, n, trials)


def estimates(frame: pd.DataFrame, *by: str) -> dict[tuple[Any, ...], Estimate]:
    """Of the column ``value``, for each group of two columns ``by`` or more, in their order.

    With a column ``trials`` each knows how many were counted, see `total`.
    """
    groups = frame.groupby(list(by), sort=False)
    values = groups["value"].agg(list)
    trials = groups["trials"].agg(list) if "trials" in frame else [[None]] * len(values)
    return {
        key: estimate(found, total(counts))
        for key, found, counts in zip(values.index, values, trials, strict=True)
    }


def total(trials: Iterable[float | None]) -> int | None:
    """Trials of several figures together: unknown (0) or no share (None or NaN) where one is."""
    found = list(trials)
    if any(number is None or math.isnan(number) for number in found):
        return None
    return int(sum(found)) if all(found) else 0  # type: ignore[arg-type]
