"""How much a defense's figure depends on its parameters: its grid beside the others of its kind.

Everything is a mean over the same victims: those of attacks that took, on which every setting has
the figure. So few seeds tell nothing of one mean: the interval is that of the best setting's lead
over the default, with each victim paired with itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analysis.headline import HEADLINE
from bench.analysis.series import Measured, Series
from bench.analysis.statistics import Estimate, estimate, t_half
from bench.analysis.taken import Taken
from bench.spec.cell import sees
from bench.spec.identity import differences, without
from bench.spec.metrics import METRICS
from bench.spec.parameters import suffix

if TYPE_CHECKING:
    Figures = pd.Series[float]

OTHERS = 2
"""Other defenses that a spread between defenses needs, at least."""
VARIED = ("seed", "attack", "attack_params", "control", "defense_params")
"""What the identities of a grid's records may differ in."""


@dataclass(frozen=True, eq=False)
class Row:
    """A setting of the tuned defense, or another defense as it is.

    ``params``: those that are not at their default. ``values``: its figure on each victim, by
    attack and seed; the same victims in every row.
    """

    defense: str
    params: dict[str, Any]
    values: Figures

    @cached_property
    def by_attack(self) -> dict[str, float]:
        """Means over seeds."""
        means = self.values.groupby("attack", sort=False).mean()
        return {str(attack): float(mean) for attack, mean in means.items()}

    @cached_property
    def mean(self) -> float:
        """Over seeds, of the mean over attacks."""
        return float(self.values.groupby("seed").mean().mean())


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The grid of one defense, on one data set and model.

    ``metric``: what such defenses are ranked by. ``settings``: the defense as it is and at other
    parameters; ``others``: defenses of the same flavour as they are. ``left_out``: what is in no
    mean, and why. ``differing``: what differs between the settings though only parameters should.
    ``behind``: the series that it is made of.
    """

    study: tuple[str, str]
    defense: str
    metric: str
    settings: list[Row]
    others: list[Row]
    left_out: list[str]
    differing: list[str]
    behind: list[Series]

    @cached_property
    def default(self) -> Row:
        return next(row for row in self.settings if not row.params)

    @cached_property
    def best(self) -> Row:
        """The default where nothing is better than it."""
        sign = -1 if METRICS[self.metric].better == "lower" else 1
        return max([self.default, *self.settings], key=lambda row: sign * row.mean)

    @cached_property
    def gain(self) -> Estimate:
        """The best's figure less the default's: the mean over victims, each paired with itself."""
        return estimate((self.best.values - self.default.values).tolist())

    @property
    def is_told_apart(self) -> bool:
        """Whether the gain is more than half its interval; one victim has no interval."""
        half = t_half(self.gain)
        return half is not None and abs(self.gain.mean) > half

    @property
    def spread(self) -> float:
        """Between the means of the settings: the largest less the least."""
        return _spread(self.settings)

    @property
    def between(self) -> float | None:
        """The same between defenses, the tuned one as it is among them; None for too few."""
        return _spread([self.default, *self.others]) if len(self.others) >= OTHERS else None

    @property
    def share(self) -> float | None:
        """The spread of the grid as a share of that between defenses; None where there is none."""
        return self.spread / self.between if self.between else None


def sensitivities(held: Measured) -> list[Sensitivity]:
    """One for each data set, model, budget and defense that has two settings with a figure on the
    same victim, its default among them.

    ``held``: of cells that were judged on validation images.
    """
    found: list[Sensitivity] = []
    single = held.of_one_identity
    for study in dict.fromkeys(series.study for series in single.series):
        some = single.only(series for series in single.series if series.study == study)
        took, left_out = _took(some)
        for tuned in dict.fromkeys((s.cell.defense, s.cell.clean) for s in took.series):
            own = [s for s in took.series if (s.cell.defense, s.cell.clean) == tuned]
            found += _sensitivity(took, own, left_out)
    return found


def _took(study: Measured) -> tuple[Measured, list[str]]:
    """The series of attacks that took, and what is said of the others."""
    taken = Taken(study)
    failures = {s.attack: why for s in study.series if (why := taken.failure(s))}
    attacked = (s for s in study.series if s.attack not in failures and s.cell.attack != "none")
    return study.only(attacked), [f"{attack}: it {why}" for attack, why in failures.items()]


def _sensitivity(
    study: Measured, own: Sequence[Series], left_out: Sequence[str]
) -> Iterator[Sensitivity]:
    """Of the series of one defense; none where there is nothing to compare."""
    defense, metric = own[0].cell.defense, HEADLINE.get(own[0].flavour, "")
    beside = [series for series in study.series if _is_beside(series, own[0])]
    figures = _figures(study, [*own, *beside], metric)
    params = {_side(series): dict(series.cell.defense_params) for series in own}
    settings = [side for side in params if side in figures]
    victims = figures[settings].dropna().index
    if len(settings) < 2 or defense not in settings or victims.empty:
        return
    names = {_side(series): series.cell.defense for series in beside}
    others = [
        side for side in names if side in figures and figures[side].loc[victims].notna().all()
    ]
    lacking = [
        *(f"{side}: it has no figure" for side in params if side not in settings),
        *(f"{side}: it has no figure of some victims" for side in names if side not in others),
        *(
            f"{attack}, seed {seed}: not every setting has its figure"
            for attack, seed in figures.index.difference(victims)
        ),
    ]
    yield Sensitivity(
        study=own[0].study,
        defense=defense,
        metric=metric,
        settings=[Row(defense, params[side], figures[side].loc[victims]) for side in settings],
        others=[Row(names[side], {}, figures[side].loc[victims]) for side in others],
        left_out=[*left_out, *lacking],
        differing=_differing(own),
        behind=[*own, *beside],
    )


def _is_beside(series: Series, tuned: Series) -> bool:
    """Whether it is another defense of that flavour, as it is, at the same budget if it sees it."""
    cell, other = series.cell, tuned.cell
    budget = cell.clean == other.clean or "clean" not in sees(cell.defense)
    kind = series.flavour == tuned.flavour and cell.defense != other.defense
    return kind and budget and not cell.defense_params


def _side(series: Series) -> str:
    return series.cell.defense + suffix(series.cell.defense_params)


def _figures(study: Measured, some: Sequence[Series], metric: str) -> pd.DataFrame:
    """A metric of each victim (rows, by attack and seed) by each side (columns)."""
    side_of = {series.number: _side(series) for series in some}
    frame = study.frame[study.frame["metric"] == metric]
    frame = frame.assign(side=frame["number"].map(side_of)).dropna(subset="side")
    victims = pd.MultiIndex.from_frame(frame[["attack", "seed"]].drop_duplicates())
    found = frame.pivot(index=["attack", "seed"], columns="side", values="value")
    return found.reindex(victims)  # in the order of tables


def _differing(own: Sequence[Series]) -> list[str]:
    first, *others = (without(series.records[0].identity, *VARIED) for series in own)
    return sorted({line for other in others for line in differences(first, other)})


def _spread(rows: Sequence[Row]) -> float:
    means = [row.mean for row in rows]
    return max(means) - min(means)
