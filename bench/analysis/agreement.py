"""Whether studies rank the same defenses alike: what carries over from one to the others.

A study is a data set and a model. The one that was measured most is held against each other one: of
each kind of defense those count that both measured on all the attacks which took in both. A
defense's score is the mean of its headline over these attacks and the seeds that all of them have.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from scipy.stats import spearmanr

from bench.analysis.differences import better
from bench.analysis.headline import HEADLINE
from bench.analysis.ranking import by_defense, named
from bench.analysis.ranks import Ranked
from bench.analysis.seedwise import by_seed, mean, over_seeds
from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.spec.cell import Flavour

FEWEST = 3
"""Defenses that a rank correlation is taken of."""

Name = tuple[str, str]
"""Data set and model."""
Scores = dict[str, Ranked]
"""Defense -> what it is ranked by."""


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
    for series in measured.plain.of_one_machine.series:
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
    """Of the attacks that took. Of a defense in several versions none has the name alone."""
    taken, figures = Taken(study), by_seed(study)
    attacked = (series for series in study.series if series.cell.attack != "none")
    took = study.only(series for series in attacked if not taken.failure(series))
    found: dict[Flavour, Scores] = {}
    for of, metric in HEADLINE.items():
        versions = by_defense(took, of)
        found[of] = {
            named(version, versions): {
                attack: figures[series.number, metric]
                for attack, series in cells.items()
                if (series.number, metric) in figures
            }
            for version, cells in versions.items()
        }
    return found


def _agreement(
    studies: tuple[Name, Name], of: Flavour, one: Scores, other: Scores
) -> Agreement | None:
    attacks = [attack for attack in _attacks(one) if attack in _attacks(other)]
    means = {
        name: tuple(mean([scores[name][attack] for attack in attacks]) for scores in (one, other))
        for name in one
        if name in other and {*attacks} <= one[name].keys() & other[name].keys()
    }
    places = {
        name: (here.mean, there.mean)
        for name, (first, second) in means.items()
        if (here := over_seeds(first)) and (there := over_seeds(second))
    }
    if len(places) < FEWEST:
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
