"""Judges a detector of poisoned training samples by the flags and scores it gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from bench.judge import formulas
from bench.judge.common import Outcome, asr_before, packed
from bench.runtime.contracts import blamed, check_sample_verdict
from bench.runtime.costs import cost
from bench.victims import Victim
from defenses import DefenderView, SampleDetector
from fixtures.training import activations

SCATTER_POINTS = 1200


def judge_samples(
    plugin: str, defense: SampleDetector, view: DefenderView, victim: Victim
) -> Outcome:
    with blamed(plugin), cost() as defending:
        raw = defense.detect(view)
    with cost() as measuring:
        verdict = check_sample_verdict(plugin, raw, victim.poisoned.numel())
        found = formulas.detection(verdict.scores, verdict.flags, victim.poisoned)
        labels = victim.poison.labels
        accused = set(labels[verdict.flags].tolist())
        guilty = set(labels[victim.poisoned].tolist())
        found["false_labels"] = float(len(accused - guilty))
        found |= asr_before(victim)
        try:
            details = {"scatter": _scatter(victim, verdict.flags)}
        except LookupError:  # a model without a penultimate layer: a figure less, no figure wrong
            details = {}
    return found, {"defend": defending, "measure": measuring}, details


def _scatter(victim: Victim, flags: Tensor) -> dict[str, Any]:
    """The target class's activations in two dimensions, with the truth and the verdict."""
    suspect = victim.suspect
    members = (suspect.labels == victim.attack.target).nonzero().flatten()
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(0))
    members = members[order[:SCATTER_POINTS]]
    points = PCA(2, random_state=0).fit_transform(
        activations(victim.model, suspect.images[members]).numpy()
    )
    scale = float(np.abs(points).max()) or 1.0
    return {
        "scale": scale,
        "int16": packed(np.round(points / scale * 32767).astype("<i2")),
        "poisoned": packed(np.packbits(victim.poisoned[members].numpy())),
        "flagged": packed(np.packbits(flags[members].numpy())),
    }
