"""Judges a detector of backdoored models by its verdict, its suspects and its triggers."""

from __future__ import annotations

from typing import Any

from bench.judge import formulas
from bench.judge.common import Outcome, asr_before, pixels
from bench.runtime.contracts import blamed, check_model_verdict
from bench.runtime.costs import cost
from bench.victims import Victim
from defenses import DefenderView, ModelDetector


def judge_model(plugin: str, defense: ModelDetector, view: DefenderView, victim: Victim) -> Outcome:
    sample = view.clean.images[:1]
    with blamed(plugin), cost() as defending:
        raw = defense.inspect(view)
    verdict = check_model_verdict(plugin, raw, view.num_classes, sample)
    backdoored = bool(victim.poisoned.any())
    found = {"verdict_correct": float(bool(verdict.backdoored) == backdoored)}
    details: dict[str, Any] = {
        "anomaly": [float(value) for value in verdict.anomaly],
        "suspects": [int(label) for label in verdict.suspects],
    }
    costs = {"defend": defending}
    if not backdoored:
        found["fpr"] = float(bool(verdict.backdoored))
        return found, costs, details
    targets = set(victim.poison.labels[victim.poisoned].tolist())
    found["target_found"] = len(targets & set(details["suspects"])) / len(targets)
    found |= asr_before(victim)
    if verdict.masks is not None and verdict.patterns is not None:
        with cost() as costs["measure"]:
            others = victim.others
            moved = (victim.triggered(others.images) - others.images).abs()
            often = (moved.amax(1) > formulas.VISIBLE).double().mean(0) >= 0.5
            mask = verdict.masks[victim.attack.target]
            if often.any() and len(targets) == 1:
                marked = (mask.amax(0) >= 0.5 * mask.max()) & (mask.amax(0) > 0)
                found["mask_iou"] = formulas.overlap(marked, often)
            details["recovered"] = {
                "true": pixels(moved.mean(0, keepdim=True)),
                "mask": pixels(mask[None]),
                "shown": pixels((mask * verdict.patterns[victim.attack.target])[None]),
            }
    return found, costs, details
