"""The one figure that defenses of a flavour are ranked by and held against their nulls with."""

from __future__ import annotations

from bench.spec.cell import Flavour

HEADLINE: dict[Flavour, str] = {
    "repair": "der",
    "training": "der",
    "certified": "certified_accuracy",
    "samples": "f1",
    "model": "verdict_correct",
    "inputs": "auroc",
}
"""Higher is better, of each."""

CHANCE: dict[Flavour, str] = {
    "samples": "auroc",
    "model": "verdict_correct",
    "inputs": "auroc",
}
"""The figure of a detector that guessing brings to a half. Of verdicts on models that is so where
attacked and clean ones count alike."""
GUESSED = 0.5
