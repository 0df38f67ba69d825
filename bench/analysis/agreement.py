"""Whether studies rank the same defenses alike: what carries over from one to the others.

A study is a data set and a model. The one that was measured most is held against each other one: of
each kind of defense those count that both measured on all the attacks which took in both. A
defense's score is the mean of its headline over these attacks and the seeds that all of them have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from scipy.stats import spearmanr

from bench.analysis.differences import better
from bench.analysis.headline import HEADLINE
from bench.analysis.seedwise import BySeed, by_seed, mean, over_seeds
from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.spec.cell import Flavour

FEWEST = 3
"""Defenses that a rank correlation is taken of."""

Name = tuple[str, str]
"""Data set and model."""
Scores = dict[str, dict[str, BySeed]]
"""Defense -> attack -> its headline by seed."""


@dataclass(frozen=True)
class Agreement:
    """What two studies make of the same defenses.

    ``places``: defense -> its score in each. ``correlation``: Spearman's, of the scores.
    ``swapped``: pairs of which the first is better in the one and the second in the other study, by
    more than chance explains in both. ``unsure``: how many pairs more change places within chance.
    """

    studies: tuple[Name, Name]
    of: Flavour
    attacks: tuple[str, ...]
    places: dict[str, tuple[float, float]]
    correlation: float
    swapped: tuple[tuple[str, str], ...]
    unsure: int


def agreements(measured: Measured) -> list[Agreement]:
    """Of the study with the most records and each other one that has `FEWEST` of its defenses."""
    by_study: dict[Name, list[Series]] = {}
    for series in measured.series:
        if series.is_plain:
            by_study.setdefault(series.study, []).append(series)
    if not by_study:
        return []
    most = max(by_study, key=lambda name: sum(len(s.records) for s in by_study[name]))
    scores = {name: _scores(measured.only(some).of_one_identity) for name, some in by_study.items()}
    return [
        found
        for other in scores
        if other != most
        for of in HEADLINE
        if (found := _agreement((most, other), of, scores[most][of], scores[other][of]))
    ]


def _scores(study: Measured) -> dict[Flavour, Scores]:
    """Of the attacks that took."""
    taken, figures = Taken(study), by_seed(study)
    found: dict[Flavour, Scores] = {of: {} for of in HEADLINE}
    for series in study.series:
        if series.cell.attack == "none" or series.flavour not in found or taken.failure(series):
            continue
        figure = figures.get((series.number, HEADLINE[series.flavour]))
        if figure:
            found[series.flavour].setdefault(series.cell.defense, {})[series.cell.attack] = figure
    return found


def _agreement(
    studies: tuple[Name, Name], of: Flavour, one: Scores, other: Scores
) -> Agreement | None:
    attacks = [a for a in _attacks(one) if a in _attacks(other)]
    both = [name for name in one if name in other]
    means = {
        name: (_mean(one[name], attacks), _mean(other[name], attacks))
        for name in both
        if all(attack in of_it for attack in attacks for of_it in (one[name], other[name]))
    }
    places = {}
    for name, (here, there) in means.items():
        first, second = over_seeds(here), over_seeds(there)
        if first and second:
            places[name] = first.mean, second.mean
    if not attacks or len(places) < FEWEST:
        return None
    crossed = [
        (a, b) if places[a][0] > places[b][0] else (b, a)
        for a, b in combinations(places, 2)
        if (places[a][0] - places[b][0]) * (places[a][1] - places[b][1]) < 0
    ]
    swapped = [
        (a, b)
        for a, b in crossed
        if better(means[a][0], means[b][0]) and better(means[b][1], means[a][1])
    ]
    return Agreement(
        studies=studies,
        of=of,
        attacks=tuple(attacks),
        places=places,
        correlation=float(spearmanr(*zip(*places.values(), strict=True)).statistic),
        swapped=tuple(swapped),
        unsure=len(crossed) - len(swapped),
    )


def _attacks(scores: Scores) -> list[str]:
    """Of any defense, in the order of tables."""
    return list(dict.fromkeys(attack for by_attack in scores.values() for attack in by_attack))


def _mean(by_attack: dict[str, BySeed], attacks: Iterable[str]) -> BySeed:
    return mean([by_attack[attack] for attack in attacks])
