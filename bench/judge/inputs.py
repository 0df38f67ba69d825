"""Judges a detector of triggered inputs by the scores it gives clean and triggered ones."""

from __future__ import annotations

import torch

from bench.judge import formulas
from bench.judge.common import Outcome, asr_before
from bench.runtime.contracts import blamed, check_scores, check_threshold
from bench.runtime.costs import cost
from bench.victims import Victim
from defenses import DefenderView, InputDetector


def judge_inputs(
    plugin: str, defense: InputDetector, view: DefenderView, victim: Victim
) -> Outcome:
    clean = victim.dataset.test.images
    backdoored = bool(victim.poisoned.any())
    # On a clean model nothing is triggered: there is nothing to tell apart, only to refuse wrongly.
    triggered = victim.triggered(victim.others.images) if backdoored else clean[:0]
    inputs = torch.cat([clean, triggered])
    truth = torch.arange(len(inputs)) >= len(clean)
    # Mixed, so that a detector which looks at its whole batch learns nothing from the order.
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    truth = truth[order]
    with blamed(plugin), cost() as defending:
        raw = defense.screen(view, inputs[order])
    scores = check_scores(plugin, "screen", raw, len(inputs))
    found = formulas.screening(scores, truth) | asr_before(victim) if backdoored else {}
    if (threshold := check_threshold(plugin, defense.threshold)) is not None:
        refused = scores > threshold
        found["fpr"] = formulas.share(refused[~truth])
        if backdoored:
            found["tpr"] = formulas.share(refused[truth])
    return found, {"defend": defending}, {}
