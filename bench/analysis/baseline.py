"""What was measured against what was accepted: is each cell as good as it was?

The rule. A metric has regressed when its mean over seeds is worse than the accepted mean by more
than ::

    tolerance + t(0.99, n - 1) * spread * sqrt(1 / n + 1 / m)

``tolerance`` stands in `bench.expected`; ``spread`` is the accepted standard deviation over ``n``
seeds, of a share near 0 or 1 at least what drawing its images alone makes: seeds that agree on
100 % do not promise it for ever (see `spread`). ``m`` is the number of seeds that ran. The second
term is the one-sided 99 % prediction bound of Student's t for the mean of ``m`` new seeds. Where
nothing has changed but the seeds, a metric that is normal over seeds is thus called regressed once
in 100 times if its tolerance is zero, less often with one, and a run of ``k`` metrics at most ``k``
times as often. A seed whose training fails is in no normal's tail: docs/ci.md has the rate that was
counted on real seeds. With the same seeds, machine and versions figures repeat to the last digit,
and none is called anything.

Only the *accepted* spread widens the rule: a new seed that collapses cannot excuse itself. With one
accepted seed there is no spread, only the tolerance, and no rate.

What is compared. Cells whose *question* is the same: data set, model, attack, defense, their
parameters, the recipe. Another question is "not comparable", and what differs is named. Changed
code, versions or machine are no reason not to compare, they are what a regression comes from: they
are named beside the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.analysis.accepted import Accepted
from bench.analysis.statistics import Estimate, quantile
from bench.expected import expectations
from bench.spec.identity import differences
from bench.spec.metrics import METRICS

CONFIDENCE = 0.99
FEW = 10
GONE = "it has no record, or its defense no longer applies"

Verdict = Literal["ok", "improved", "regressed", "new", "missing", "not comparable"]
VERDICTS: tuple[Verdict, ...] = (
    "regressed",
    "missing",
    "not comparable",
    "improved",
    "new",
    "ok",
)
"""In the order in which people want to hear them."""


@dataclass(frozen=True)
class Comparison:
    """``why``: the figures or differences behind a verdict; ``changed``: what else is different."""

    name: str
    verdict: Verdict
    why: list[str]
    changed: list[str]


def compare(
    before: Mapping[str, Accepted],
    after: Mapping[str, Accepted],
    wanted: Callable[[Accepted], bool] = lambda _: True,
) -> list[Comparison]:
    """Every cell of both. ``wanted``: whether an accepted cell that is not there is missed."""
    found = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            if wanted(before[name]):
                found.append(Comparison(name, "missing", [GONE], []))
        elif name not in before:
            found.append(Comparison(name, "new", [], []))
        else:
            found.append(_compare(name, before[name], after[name]))
    return found


def _compare(name: str, before: Accepted, after: Accepted) -> Comparison:
    asked = differences(before.identity, after.identity, "asked")
    if asked:
        return Comparison(name, "not comparable", asked, [])
    changed = differences(before.identity, after.identity, "code", "versions", "machine")
    judged = _judge(before, after)
    for verdict in ("regressed", "improved"):
        why = [line for found, line in judged if found == verdict]
        if why:
            return Comparison(name, verdict, why, changed)
    return Comparison(name, "ok", [], changed)


def _judge(before: Accepted, after: Accepted) -> list[tuple[Verdict, str]]:
    judged: list[tuple[Verdict, str]] = []
    for metric, tolerance in expectations.tolerance(before.cell["dataset"]).items():
        better = better_of(metric, before)
        if metric not in before.metrics or not better:
            continue
        if metric == "fpr" and "verdict_correct" in before.metrics:
            continue  # of a model detector: the same 0 or 1 again
        if metric not in after.metrics:
            judged.append(("regressed", f"{metric} was not measured"))
            continue
        old, new = before.metrics[metric], after.metrics[metric]
        gain = (new.mean - old.mean) * (1 if better == "higher" else -1)
        allowed = allowance(tolerance, old, new.n)
        verdict: Verdict = "ok"
        if abs(gain) > allowed + 1e-12:  # sums of floats: a difference of nothing is none
            verdict = "improved" if gain > 0 else "regressed"
        show = METRICS[metric].show
        judged.append(
            (verdict, f"{metric} {show(old.mean)} -> {show(new.mean)} (allowed {show(allowed)})")
        )
    return judged


def allowance(tolerance: float, accepted: Estimate, seeds: int) -> float:
    """How far the mean of ``seeds`` seeds may lie from the accepted one; see the module's text."""
    if accepted.spread is None:
        return tolerance
    bound = quantile(CONFIDENCE, accepted.n - 1)
    return tolerance + bound * spread(accepted) * math.sqrt(1 / accepted.n + 1 / seeds)


def spread(accepted: Estimate) -> float:
    """The standard deviation over seeds, of a share near a limit no less than its images make it.

    Near a limit is where fewer than `FEW` images of all seeds together are on the other side: too
    few to tell a spread by. The share is then taken as Agresti and Coull do (1998,
    doi:10.2307/2685469), with two more hits and two more misses, so that one of 0 or 1 has some.
    """
    found, trials = accepted.spread or 0.0, accepted.trials
    if not trials or min(accepted.mean, 1 - accepted.mean) * trials >= FEW:
        return found
    share = (accepted.mean * trials + 2) / (trials + 4)
    return max(found, math.sqrt(share * (1 - share) * accepted.n / trials))


def better_of(metric: str, of: Accepted) -> str:
    """The direction that is better in a cell: an attack's own ASR is there to be high."""
    if of.kind == "attack" and of.cell["attack"] != "none":
        if metric in ("asr", "asr_worst", "asr_other_seed"):
            return "higher"
        if metric == "ra":
            return "lower"
    return METRICS[metric].better


def failing(found: Iterable[Comparison], *, strict: bool) -> list[Comparison]:
    """What fails a run: regressed and missing, and where ``strict`` also not comparable."""
    bad = {"regressed", "missing"} | ({"not comparable"} if strict else set())
    return [comparison for comparison in found if comparison.verdict in bad]
