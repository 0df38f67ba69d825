"""Judges a detector of poisoned training samples by the flags and scores it gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from attacks import COVER, POISON
from bench.judge import formulas
from bench.judge.common import Outcome, packed
from bench.judge.defender import Defender
from bench.judge.networks import asr_before
from bench.judge.repeated import check_repeated
from bench.runtime.costs import cost
from bench.victims import Victim
from bench.victims.poison import device_of
from defenses.view import features
from fixtures.anatomy import Place, anatomy

SCATTER_POINTS = 1200


def judge_samples(defender: Defender, victim: Victim, _clean: Victim | None = None) -> Outcome:
    """TPR, FPR, F1 and AUROC of poison against clean samples, and beside them covers flagged."""
    with cost(defender) as defending:
        verdict = defender.detect()
    check_repeated(defender, "detect", verdict, defending, Defender.detect)
    scores, flags = verdict
    with cost() as measuring:
        poison, covers = victim.roles == POISON, victim.roles == COVER
        found = formulas.detection(scores[~covers], flags[~covers], poison[~covers])
        if covers.any():
            found["covers_flagged"] = formulas.share(flags[covers])
        labels = victim.suspect.labels
        accused = set(labels[flags & ~covers].tolist())
        guilty = set(labels[poison].tolist())
        found["false_labels"] = float(len(accused - guilty))
        found |= asr_before(victim)
        two = victim.suspect.batch(torch.arange(2), device_of(victim.model))
        place = anatomy(victim.model, two).features
        # A model without features to look at: a figure less, no figure wrong.
        details = {} if place is None else {"scatter": _scatter(victim, place, flags)}
    return found, {"defend": defending, "measure": measuring}, details


def _scatter(victim: Victim, place: Place, flags: Tensor) -> dict[str, Any]:
    """The target class's activations in two dimensions, with the truth and the verdict."""
    suspect = victim.suspect
    members = (suspect.labels == victim.attack.target).nonzero().flatten()
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(0))
    members = members[order[:SCATTER_POINTS]]
    points = PCA(2, random_state=0).fit_transform(
        features(victim.model, place, suspect.take(members))
    )
    scale = float(np.abs(points).max()) or 1.0
    return {
        "scale": scale,
        "int16": packed(np.round(points / scale * 32767).astype("<i2")),
        "poisoned": packed(np.packbits((victim.roles == POISON)[members].numpy())),
        "flagged": packed(np.packbits(flags[members].numpy())),
    }
