"""Judges a repair by clean accuracy, ASR and RA before and after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.judge import formulas
from bench.judge.common import Outcome, as_received, measure
from bench.runtime.costs import cost
from bench.runtime.verdicts import check_network, seeing
from bench.victims import Victim
from defenses import DefenderView, Repair
from fixtures.blame import blamed

TRAJECTORY_IMAGES = 1000
"""Test images behind each point of a repair's trajectory: a figure's precision, not a metric's."""


def judge_repair(plugin: str, defense: Repair, view: DefenderView, victim: Victim) -> Outcome:
    """The repaired network's figures beside the victim's, and those of the way to it, if told."""
    with seeing(plugin, view), cost() as defending:
        net = defense.repair(view)
    with cost() as measuring:
        found = compared(plugin, "repair", net, victim)
        test = len(victim.dataset.test)
        few = torch.randperm(test, generator=torch.Generator().manual_seed(0))[:TRAJECTORY_IMAGES]
        with blamed(plugin):
            trajectory = [
                {"at": int(at), **measure(step, victim, few)} for at, step in defense.trajectory()
            ]
    details: dict[str, Any] = {}
    # A trigger of few classes may work on none of those images: no figure then.
    if trajectory and all("asr" in point for point in trajectory):
        details = {"trajectory": trajectory, "trajectory_label": defense.trajectory_label}
    return found, {"defend": defending, "measure": measuring}, details


def compared(plugin: str, method: str, net: nn.Module, victim: Victim) -> dict[str, float]:
    """Figures of the network that ``method`` returned, those of the victim beside them, and DER.

    Raises PluginError where it is no network of the data set's classes.
    """
    dataset = victim.dataset
    sample = dataset.test.batch(torch.arange(min(2, len(dataset.test))))
    check_network(plugin, method, net, sample, len(dataset.classes))
    before = as_received(victim)
    with blamed(plugin):
        found = measure(net, victim)
    found |= {f"{name}_before": value for name, value in before.items()}
    found["der"] = formulas.der(
        before["clean_accuracy"], found["clean_accuracy"], before["asr"], found["asr"]
    )
    return found
