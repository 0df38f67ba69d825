"""Judges a training on data that is not trusted, as a repair of the plainly trained victim."""

from __future__ import annotations

from bench.judge.common import Outcome
from bench.judge.defender import Defender, Made
from bench.judge.repairs import compared
from bench.runtime.costs import cost
from bench.victims import Victim


def judge_training(defender: Defender, victim: Victim, clean: Victim | None) -> Outcome:
    """The trained network's figures beside those of the victim, which the same data made."""
    _, outcome = trained(defender, victim, clean)
    return outcome


def trained(defender: Defender, victim: Victim, clean: Victim | None) -> tuple[Made, Outcome]:
    """What the defense trains, and its figures."""
    with cost(defender) as defending:
        made = defender.make("train")
    with cost() as measuring:
        found, details = compared(defender, made, victim, clean)
    return made, (found, {"defend": defending, "measure": measuring}, details)
