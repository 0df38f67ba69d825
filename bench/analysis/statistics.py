"""Means and their 95 % intervals: the one place where figures are averaged over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Estimate:
    """Mean and ``spread`` (standard deviation) over ``n`` seeds; one seed has no spread."""

    mean: float
    spread: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the 95 % interval of the mean (Student's t); None for one seed."""
        if self.spread is None:
            return None
        return quantile(0.975, self.n - 1) * self.spread / math.sqrt(self.n)


@lru_cache(maxsize=1024)
def quantile(share: float, freedom: int) -> float:
    """Of Student's t with ``freedom`` degrees of freedom."""
    return float(student_t.ppf(share, freedom))


def estimate(values: Sequence[float]) -> Estimate:
    """Of plain values, summed exactly. Raises ValueError for no values at all."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to average")
    return Estimate(math.fsum(values) / n, statistics.stdev(values) if n > 1 else None, n)


def estimates(frame: pd.DataFrame, *by: str) -> dict[tuple[Any, ...], Estimate]:
    """Of the column ``value``, for each group of two columns ``by`` or more, in their order."""
    values = frame.groupby(list(by), sort=False)["value"].agg(list)
    return {key: estimate(found) for key, found in zip(values.index, values, strict=True)}
