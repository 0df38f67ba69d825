"""Hands a defense its view and nothing else, and what comes back to the referee of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any

from attacks import ATTACKS
from bench.judge.certified import judge_certified
from bench.judge.common import Outcome
from bench.judge.inputs import judge_inputs
from bench.judge.models import judge_model
from bench.judge.repairs import judge_repair
from bench.judge.samples import judge_samples
from bench.judge.training import judge_training
from bench.runtime.verdicts import check_sees, unsupported
from bench.spec import defaults
from bench.spec.cell import FLAVOURS, Cell, Flavour
from bench.victims import Victim
from defenses import DefenderView, Defense
from fixtures.blame import blamed
from fixtures.errors import NotApplicable, PluginError
from fixtures.seeding import seed_of, seeded

Referee = Callable[[str, Any, DefenderView, Victim], Outcome]

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
    cell: Cell,
    victim: Victim,
    defense: Defense,
    clean_victim: Victim | None = None,  # noqa: ARG001 - read once re-activation is judged
) -> Outcome:
    """Run a defense on its view of the victim, and measure what it says or makes.

    ``clean_victim``: the same model without poison, which re-activation is held against.

    Raises NotApplicable with the defense's reason where it says that it does not support the view,
    and where it needs the training set of an attack that hands over none; PluginError for a plugin
    that breaks its contract.
    """
    plugin = f"defense {cell.defense!r}"
    referee = _referee(plugin, defense)
    sees = check_sees(plugin, defense)
    seed = seed_of("defense", cell.seed)
    reason = _nothing_to_see(victim, sees)
    if reason is None:
        view = victim.view(seed, sees, defaults.budget(cell))
        with seeded(seed):
            reason = unsupported(plugin, defense, view)
    if reason is not None:
        raise NotApplicable(reason)
    with seeded(seed):
        found, costs, details = referee(plugin, defense, view, victim)
    with blamed(f"{plugin}, its report"):
        json.dumps(defense.report, allow_nan=False)
    return found, costs, {"report": defense.report, **details}


def _nothing_to_see(victim: Victim, sees: Set[str]) -> str | None:
    of_weights = ATTACKS[victim.cell.attack].info.needs == "model"
    return WEIGHTS if of_weights and "suspect" in sees else None


def _referee(plugin: str, defense: Defense) -> Referee:
    for kind, flavour in FLAVOURS.items():
        if isinstance(defense, kind):
            return REFEREES[flavour]
    kinds = ", ".join(kind.__name__ for kind in FLAVOURS)
    raise PluginError(f"{plugin}: {type(defense).__name__} is none of {kinds}")
