"""How claims stand: whether the means over seeds keep the bounds that were fixed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.series import Measured, Series
from bench.analysis.taken import Taken
from bench.expected import expectations
from bench.expected.bounds import Bound
from bench.expected.claims import Claim

State = Literal["met", "red", "not measured"]
STATES: tuple[State, ...] = ("met", "red", "not measured")


@dataclass(frozen=True)
class Standing:
    """A claim about one cell, and what was measured there.

    ``series``: the cell with as many clean images as the claim names; None where that was not run.
    ``elsewhere``: the same cell with other numbers of clean images, the fewest first. ``failure``:
    that the attack did not take, so nothing can be said of a defense.
    """

    dataset: str
    claim: Claim
    attack: str
    defense: str
    series: Series | None
    elsewhere: list[Series]
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
    series = [s for s in measured.of_one_identity.series if s.cell.uses_defaults]
    taken = Taken(measured)
    found = []
    for dataset, model in dict.fromkeys((s.cell.dataset, s.cell.model) for s in series):
        some = [s for s in series if (s.cell.dataset, s.cell.model) == (dataset, model)]
        for claim in expectations.claims(dataset):
            if claim.model == model:
                found += _of_claim(dataset, claim, some, taken)
    return found


def _of_claim(dataset: str, claim: Claim, some: Sequence[Series], taken: Taken) -> list[Standing]:
    found = []
    for attack, defense in claim.cells():
        own = [s for s in some if (s.cell.attack, s.cell.defense) == (attack, defense)]
        if not own:
            continue
        there = [s for s in own if s.clean == claim.clean]
        found.append(
            Standing(
                dataset=dataset,
                claim=claim,
                attack=attack,
                defense=defense,
                series=there[0] if there else None,
                elsewhere=[s for s in own if s.clean != claim.clean],
                failure=taken.failure(*there) if there and defense != "none" else "",
            )
        )
    return found


def counted(found: Sequence[Standing]) -> str:
    """``5 met, 1 red, 3 not measured``; empty for no claims."""
    states = [standing.state for standing in found]
    counts = {state: states.count(state) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def of_series(found: Sequence[Standing], series: Series) -> str:
    """How the claims about one series stand, counted; empty where there is none."""
    return counted([standing for standing in found if standing.series is series])
