"""Hands a defense its view and nothing else, and what comes back to the referee of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bench.judge.common import Outcome
from bench.judge.inputs import judge_inputs
from bench.judge.models import judge_model
from bench.judge.repairs import judge_repair
from bench.judge.samples import judge_samples
from bench.runtime.contracts import blamed, unsupported
from bench.spec.cell import Cell
from bench.victims import Victim
from defenses import DefenderView, Defense, InputDetector, ModelDetector, Repair, SampleDetector
from fixtures.errors import NotApplicable, PluginError
from fixtures.seeding import seed_of, seeded


def judge_defense(cell: Cell, victim: Victim, defense: Defense) -> Outcome:
    """Run a defense on its view of the victim, and measure what it says or makes.

    Raises NotApplicable with the defense's reason where it says that it does not support the view.
    """
    plugin = f"defense {cell.defense!r}"
    seed = seed_of("defense", cell.seed)
    view = victim.view(seed)
    judge = _referee(plugin, defense)
    with seeded(seed):
        reason = unsupported(plugin, defense, view)
    if reason is not None:
        raise NotApplicable(reason)
    with seeded(seed):
        found, costs, details = judge(plugin, defense, view, victim)
    with blamed(f"{plugin}, its report"):
        json.dumps(defense.report, allow_nan=False)
    return found, costs, {"report": defense.report, **details}


def _referee(plugin: str, defense: Defense) -> Callable[[str, Any, DefenderView, Victim], Outcome]:
    if isinstance(defense, SampleDetector):
        return judge_samples
    if isinstance(defense, ModelDetector):
        return judge_model
    if isinstance(defense, InputDetector):
        return judge_inputs
    if isinstance(defense, Repair):
        return judge_repair
    raise PluginError(f"{plugin}: {type(defense).__name__} is none of the four kinds")
