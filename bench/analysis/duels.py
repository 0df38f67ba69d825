"""An attacker who adapts beside the plain one: what each leaves of what a defense achieves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.series import Measured, Series
from bench.analysis.statistics import Estimate
from bench.expected.duels import Duel, duels
from bench.spec import defaults
from bench.spec.cell import Cell, Flavour

ACHIEVED: dict[Flavour, str] = {
    "samples": "f1",
    "model": "target_found",
    "inputs": "tpr_at_5_fpr",
    "repair": "asr",
    "training": "asr",
    "certified": "asr",
}
"""What a defense achieved is read from; of what makes a model, the ASR that it takes away."""

WORKS, HALF = 0.9, 0.5
"""ASR that an attack must keep, and the share of what the defense achieved that it must take."""

LEAST = 0.5
"""What the defense must achieve against the twin for there to be something to take."""

GUESSED = {"tpr_at_5_fpr": 0.05}
"""What a detector reaches by chance, which is no achievement."""


@dataclass(frozen=True)
class Round:
    """One duel on one study. ``plain``, ``adaptive``: what the defense achieved against each, from
    0 to 1; ``asr``: of the adaptive attack, ``plain_asr`` of its twin."""

    study: tuple[str, str]
    duel: Duel
    defense: str
    flavour: Flavour
    plain_asr: Estimate
    asr: Estimate
    plain: float
    adaptive: float

    @property
    def taken(self) -> float | None:
        """The share of what the defense achieved that is gone; None where that was too little."""
        return 1 - max(0.0, self.adaptive) / self.plain if self.plain >= LEAST else None

    @property
    def held(self) -> bool:
        """Whether it takes away half or more, at an ASR of `WORKS` or more."""
        return self.taken is not None and self.taken >= HALF and self.asr.mean >= WORKS


def rounds(measured: Measured) -> Iterator[Round]:
    """Every duel of which both sides, and the defense against both, were measured."""
    ours = {series.name: series for series in measured.of_one_identity.series}
    for cell in {series.study: series.cell for series in measured.series}.values():
        for duel in duels():
            for defense in duel.defenses:
                sides = [
                    (ours.get(_name(cell, attack, params, "none")),
                     ours.get(_name(cell, attack, params, defense)))
                    for attack, params in ((duel.twin, _as_much(cell, duel)), (duel.attack, {}))
                ]  # fmt: skip
                found = _round(duel, defense, sides)
                if found is not None:
                    yield found


def _as_much(cell: Cell, duel: Duel) -> dict[str, Any]:
    """Parameters with which the twin poisons as large a share as the attacker."""
    rate, own = (defaults.poison_rate(cell.dataset, name) for name in (duel.attack, duel.twin))
    return {} if rate == own else {"poison_rate": rate}


def _name(of: Cell, attack: str, params: dict[str, Any], defense: str) -> str:
    """Of the cell of the same study with another attack and defense, at their defaults."""
    return replace(
        of,
        attack=attack,
        attack_params=params,
        defense=defense,
        defense_params={},
        clean=None,
    ).name


def _round(
    duel: Duel, defense: str, sides: list[tuple[Series | None, Series | None]]
) -> Round | None:
    (plain, against_plain), (adaptive, against_adaptive) = sides
    if not (plain and against_plain and adaptive and against_adaptive):
        return None
    achieved = [_achieved(against_plain), _achieved(against_adaptive)]
    if achieved[0] is None or achieved[1] is None:
        return None
    return Round(
        study=adaptive.study,
        duel=duel,
        defense=defense,
        flavour=against_plain.flavour,
        plain_asr=plain.figures["asr"],
        asr=adaptive.figures["asr"],
        plain=achieved[0],
        adaptive=achieved[1],
    )


def _achieved(series: Series) -> float | None:
    figure = ACHIEVED[series.flavour]
    if figure not in series.figures:
        return None
    after = series.figures[figure].mean - GUESSED.get(figure, 0.0)
    if figure == "asr":
        before = series.figures["asr_before"].mean
        return (before - after) / before if before > 0 else 0.0
    return after
