"""Whether one defense does better than another: their difference, paired by seed."""

from __future__ import annotations

import math

from bench.analysis.seedwise import BySeed, over_seeds
from bench.analysis.statistics import Estimate, Interval, clopper_pearson, t_half


def interval(first: BySeed, second: BySeed) -> Interval | None:
    """The 95 % interval of the mean of first less second, over the seeds that both have.

    To each side it is the wider of two: Student's t of the differences within seeds, and what the
    counts alone leave open, by the method of variance estimates recovery (Newcombe 1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I) from both shares' Clopper
    and Pearson intervals. So it is no point where all seeds agree. None where nothing tells how
    sure it is: no seed in common, or one and nobody counted.
    """
    seeds = sorted(first.keys() & second.keys())
    one, other = ({seed: of[seed] for seed in seeds} for of in (first, second))
    a, b = over_seeds(one), over_seeds(other)
    apart = over_seeds({seed: (one[seed][0] - other[seed][0], None) for seed in seeds})
    if a is None or b is None or apart is None:
        return None
    half, sides = t_half(apart), _counted(a, b)
    if half is None and sides is None:
        return None
    below, above = sides or (0.0, 0.0)
    return apart.mean - max(half or 0.0, below), apart.mean + max(half or 0.0, above)


def better(first: BySeed, second: BySeed) -> bool:
    """Whether the first is higher by more than the interval of their difference."""
    found = interval(first, second)
    return found is not None and found[0] > 0


def apart(first: BySeed, second: BySeed) -> bool:
    """Whether the data can tell them apart, whichever is higher."""
    return better(first, second) or better(second, first)


def _counted(first: Estimate, second: Estimate) -> Interval | None:
    """How far the difference may lie below and above for the counts alone; None of no counts."""
    if not (first.trials and second.trials):
        return None
    low, high = clopper_pearson(first.mean, first.trials)
    lower, higher = clopper_pearson(second.mean, second.trials)
    return (
        math.hypot(first.mean - low, higher - second.mean),
        math.hypot(high - first.mean, second.mean - lower),
    )
