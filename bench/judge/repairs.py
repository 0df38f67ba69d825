"""Judges a repair by clean accuracy, ASR and RA before and after it."""

from __future__ import annotations

import torch

from bench.judge import formulas
from bench.judge.common import Outcome, as_received, measure
from bench.runtime.contracts import blamed, check_repaired
from bench.runtime.costs import cost
from bench.victims import Victim
from defenses import DefenderView, Repair

TRAJECTORY_IMAGES = 1000
"""Test images behind each point of a repair's trajectory: a figure's precision, not a metric's."""


def judge_repair(plugin: str, defense: Repair, view: DefenderView, victim: Victim) -> Outcome:
    with blamed(plugin), cost() as defending:
        net = defense.repair(view)
    with cost() as measuring:
        test = victim.dataset.test
        aims = victim.attack.aim(test.labels)
        check_repaired(plugin, net, test.images[:2], view.num_classes)
        triggered, before = as_received(victim)
        with blamed(plugin):
            found = measure(net, test, triggered, aims)
        found |= {f"{name}_before": value for name, value in before.items()}
        found["der"] = formulas.der(
            before["clean_accuracy"], found["clean_accuracy"], before["asr"], found["asr"]
        )
        details = {}
        few = torch.randperm(test.size, generator=torch.Generator().manual_seed(0))[
            :TRAJECTORY_IMAGES
        ]
        with blamed(plugin):
            trajectory = [
                {"at": int(at), **measure(step, test.take(few), triggered[few], aims[few])}
                for at, step in defense.trajectory()
            ]
    if trajectory:
        details = {"trajectory": trajectory, "trajectory_label": defense.trajectory_label}
    return found, {"defend": defending, "measure": measuring}, details
