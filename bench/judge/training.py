"""Judges a training on data that is not trusted, as a repair of the plainly trained victim."""

from __future__ import annotations

from torch import nn

from bench.judge.common import Outcome
from bench.judge.repairs import compared
from bench.runtime.costs import cost
from bench.runtime.verdicts import seeing
from bench.victims import Victim
from defenses import DefenderView, Training


def judge_training(plugin: str, defense: Training, view: DefenderView, victim: Victim) -> Outcome:
    """The trained network's figures beside those of the victim, which the same data made."""
    _, outcome = trained(plugin, defense, view, victim)
    return outcome


def trained(
    plugin: str, defense: Training, view: DefenderView, victim: Victim
) -> tuple[nn.Module, Outcome]:
    """What the defense trains, and its figures."""
    with seeing(plugin, view), cost() as defending:
        net = defense.train(view)
    with cost() as measuring:
        found = compared(plugin, "train", net, victim)
    return net, (found, {"defend": defending, "measure": measuring}, {})
