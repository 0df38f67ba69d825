"""How claims stand: whether the means over seeds keep the bounds that were fixed beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.expected import expectations
from bench.expected.bounds import Bound
from bench.expected.claims import Claim

State = Literal["met", "red", "not measured"]
STATES: tuple[State, ...] = ("met", "red", "not measured")

Cells: TypeAlias = dict[tuple[str, str], list[Series]]
"""Attack and defense -> the series of that cell, one for each number of clean images."""


@dataclass(frozen=True)
class Standing:
    """A claim about one cell, and what was measured there.

    ``series``: the cell with as many clean images as the claim names; None where that was not run.
    ``usual``: the same cell at the data set's default, where the claim names another number.
    ``failure``: that the attack did not take, so nothing can be said of a defense.
    """

    dataset: str
    claim: Claim
    attack: str
    defense: str
    series: Series | None
    usual: Series | None
    failure: str

    @property
    def bounds(self) -> list[Bound]:
        return self.claim.limits()

    @property
    def state(self) -> State:
        """``not measured`` also where one of the figures is lacking."""
        figures = self.series.figures if self.series and not self.failure else {}
        if not all(bound.metric in figures for bound in self.bounds):
            return "not measured"
        kept = all(bound.holds(figures[bound.metric].mean) for bound in self.bounds)
        return "met" if kept else "red"


def standings(measured: Measured) -> list[Standing]:
    """Of every claim about a cell that was measured, with whatever number of clean images."""
    taken = Taken(measured)
    by_study: dict[tuple[str, str], Cells] = {}
    for series in measured.of_one_identity.series:
        cell = series.cell
        if cell.uses_defaults:
            cells = by_study.setdefault((cell.dataset, cell.model), {})
            cells.setdefault((cell.attack, cell.defense), []).append(series)
    return [
        standing
        for (dataset, model), cells in by_study.items()
        for claim in expectations.claims(dataset)
        if claim.model == model
        for standing in _of_claim(dataset, claim, cells, taken)
    ]


def _of_claim(dataset: str, claim: Claim, cells: Cells, taken: Taken) -> Iterator[Standing]:
    for attack, defense in claim.cells():
        own = cells.get((attack, defense), [])
        there = next((series for series in own if series.clean == claim.clean), None)
        usual = next((s for s in own if s is not there and s.is_plain), None)
        if own:
            yield Standing(
                dataset=dataset,
                claim=claim,
                attack=attack,
                defense=defense,
                series=there,
                usual=usual,
                failure=taken.failure(there or own[0]) if defense != "none" else "",
            )


def counted(found: Iterable[Standing]) -> str:
    """``5 met, 1 red, 3 not measured``; empty for no claims."""
    states = [standing.state for standing in found]
    counts = {state: states.count(state) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def by_series(found: Iterable[Standing]) -> dict[int, str]:
    """How the claims about each series stand, counted, by its number; none where there is none."""
    about: dict[int, list[Standing]] = {}
    for standing in found:
        if standing.series is not None:
            about.setdefault(standing.series.number, []).append(standing)
    return {number: counted(some) for number, some in about.items()}
