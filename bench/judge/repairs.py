"""Judges a repair by clean accuracy, ASR and RA before and after it."""

from __future__ import annotations

from typing import Any

import torch

from bench.judge import formulas
from bench.judge.common import Outcome
from bench.judge.defender import Defender, Made, Remote
from bench.judge.networks import as_received, company, measure
from bench.judge.reactivation import reactivation
from bench.runtime.costs import cost
from bench.victims import Victim
from fixtures.blame import blamed

TRAJECTORY_IMAGES = 1000
"""Test images behind each point of a repair's trajectory: a figure's precision, not a metric's."""

NO_GRADIENT = "no gradient flows"
"""Why a repaired network has no figure of re-activation."""


def judge_repair(defender: Defender, victim: Victim, clean: Victim | None) -> Outcome:
    """The repaired network's figures beside the victim's, and those of the way to it, if told."""
    with cost(defender) as defending:
        made = defender.make("repair")
    with cost() as measuring:
        found, details = compared(defender, made, victim, clean)
        details |= _trajectory(defender, victim)
    return found, {"defend": defending, "measure": measuring}, details


def _trajectory(defender: Defender, victim: Victim) -> dict[str, Any]:
    test = len(victim.dataset.test)
    few = torch.randperm(test, generator=torch.Generator().manual_seed(0))[:TRAJECTORY_IMAGES]
    trajectory, label = [], ""
    for at, label, step in defender.steps():  # noqa: B007 - the same for every step
        trajectory.append({"at": at, **measure(step.net, victim, few, once=step.stays)})
    # A trigger of few classes may work on none of those images: no figure then.
    if trajectory and all("asr" in point for point in trajectory):
        return {"trajectory": trajectory, "trajectory_label": label}
    return {}


def compared(
    defender: Defender, made: Made, victim: Victim, clean: Victim | None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of the network that a defense made, those of the victim beside them, and DER.

    ``clean``: the same model without poison, which re-activation is held against; None where there
    is no backdoor to wake.
    """
    # Of a network that is shown half of the images each way, the victim's figures on those.
    before = measure(victim.model, victim, once=True) if made.stays else as_received(victim)
    with blamed(defender.plugin):
        found = measure(made.net, victim, once=made.stays)
    found |= {f"{name}_before": value for name, value in before.items()}
    found["der"] = formulas.der(
        before["clean_accuracy"], found["clean_accuracy"], before["asr"], found["asr"]
    )
    details: dict[str, Any] = {}
    if isinstance(made.net, Remote):
        found["company"] = company(made.net, victim)
        details["stays"] = f"{made.net.name} answers from its defender's process"
    if clean is not None:
        seed = victim.dataset.seed_of("re-activation", victim.cell.seed)
        woken = None if made.stays else reactivation(made.net, victim, clean, seed)
        if woken is None:
            details["reactivation"] = NO_GRADIENT
        else:
            found["reactivation"] = woken
    return found, details
