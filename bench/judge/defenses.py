"""Has a defense run on its view of a victim, and what it says or makes measured."""

from __future__ import annotations

from collections.abc import Callable, Set

from attacks import ATTACKS
from bench.judge.certified import judge_certified
from bench.judge.common import Outcome
from bench.judge.defender import Defender
from bench.judge.inputs import judge_inputs
from bench.judge.models import judge_model
from bench.judge.repairs import judge_repair
from bench.judge.samples import judge_samples
from bench.judge.training import judge_training
from bench.runtime.costs import cost
from bench.runtime.verdicts import check_sees
from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.spec.cell import Cell, Flavour, flavour_of
from bench.victims import Victim
from defenses import DEFENSES
from fixtures.errors import NotApplicable

Referee = Callable[[Defender, Victim, "Victim | None"], Outcome]
"""The last is the same model without poison, where repairs are held against it."""

REFEREES: dict[Flavour, Referee] = {
    "samples": judge_samples,
    "model": judge_model,
    "inputs": judge_inputs,
    "repair": judge_repair,
    "training": judge_training,
    "certified": judge_certified,
}

WEIGHTS = "the attack changes weights, not the training set"
"""Why what looks at a training set does not apply where the attacker hands over a model alone."""


def judge_defense(
    cell: Cell, victim: Victim, clean_victim: Victim | None, workspace: Workspace
) -> Outcome:
    """Run a defense in a process of its own, and measure what it says or makes.

    ``clean_victim``: the same model without poison, which re-activation is held against.

    Raises NotApplicable with the defense's reason where it says that it does not support the view,
    and where it needs the training set of an attack that hands over none; PluginError for a plugin
    that breaks its contract.
    """
    plugin = f"defense {cell.defense!r}"
    referee = REFEREES[flavour_of(cell.defense)]
    # Of the class: a defense is built in its own process alone.
    sees = check_sees(plugin, DEFENSES[cell.defense].factory)
    reason = _nothing_to_see(victim, sees)
    if reason is not None:
        raise NotApplicable(reason)
    handed = victim.handed(
        victim.dataset.seed_of("defense", cell.seed), sees, defaults.budget(cell)
    )
    with Defender(plugin, cell, handed, workspace) as defender:
        with cost(defender) as asking:
            reason = defender.supports()
        if reason is not None:
            raise NotApplicable(reason)
        found, costs, details = referee(defender, victim, clean_victim)
        costs["defend"].seconds += asking.seconds  # whatever it does there is its own time
        return found, costs, {"report": defender.report(), **details}


def _nothing_to_see(victim: Victim, sees: Set[str]) -> str | None:
    of_weights = ATTACKS[victim.cell.attack].info.needs == "model"
    return WEIGHTS if of_weights and "suspect" in sees else None
