"""What the benchmark knows of a detector's errors, as shares with Wilson's 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy.stats import binomtest

from bench.analysis.odds import Counted

CLEAN = "none"
"""The attack of a model that nobody attacked."""


def interval(one: Counted) -> tuple[float, float]:
    """Of the share that was called backdoored: Wilson 1927."""
    found = binomtest(one.called, one.models).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def false_alarms(of: Mapping[str, Counted]) -> Counted:
    """Clean models that were called backdoored."""
    return of.get(CLEAN, Counted(0, 0))


def found(of: Mapping[str, Counted]) -> Counted:
    """Backdoored models of all attacks together."""
    attacked = [one for attack, one in of.items() if attack != CLEAN]
    return Counted(sum(one.called for one in attacked), sum(one.models for one in attacked))


def blind_to(of: Mapping[str, Counted]) -> Sequence[str]:
    """Attacks whose models are called backdoored no more often than clean ones, as far as can be
    told: their intervals overlap."""
    alarms = false_alarms(of)
    if not alarms.models:
        return []
    most = interval(alarms)[1]
    return [attack for attack, one in of.items() if attack != CLEAN and interval(one)[0] <= most]


def share(one: Counted) -> str:
    """``3 of 80, 4 % (1 to 10)``; empty of no models."""
    if not one.models:
        return ""
    low, high = interval(one)
    percent = 100 * one.called / one.models
    return f"{one.called} of {one.models}, {percent:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
