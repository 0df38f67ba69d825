"""STRIP: a triggered input keeps its prediction when clean images are added to it."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from defenses.base import InputDetector, defense
from defenses.view import DefenderView
from fixtures.images import to_bytes
from fixtures.seeding import of_each
from fixtures.training import predict

SCREENED = 64
"""Clean images that are screened at a time to find the threshold."""


@defense("strip", source="Gao et al. 2019, arXiv:1902.06531")
class Strip(InputDetector):
    """Refuse an input whose prediction stays sure when clean images are added to it.

    Question: does one part of this input decide its class? Each input is added to ``overlays``
    random clean images, pixels cut at white as in the paper, and the score is the mean entropy of
    the predictions, negated: low entropy means triggered. The threshold refuses ``fpr`` of the
    defender's own clean images, which are screened in the same way against the others; no triggered
    input is needed. Which clean images an input is added to follows from its own pixels and a seed,
    so that its score is the same whatever it is screened with.

    Deviates from the paper: the overlays are of one half of the clean split, the threshold is from
    the other half, and it is the quantile itself where the paper fits a normal distribution.
    Assumes one trigger that works on any background, so that it outlasts another image on top: it
    is not made for triggers that change the image's own content or belong to one image only. Costs
    ``overlays`` forward passes an input.
    """

    grid = MappingProxyType({"overlays": (10, 30, 100)})

    def __init__(self, overlays: int = 100, fpr: float = 0.05) -> None:
        self.overlays = overlays
        self.fpr = self.aimed_fpr = fpr

    def calibrate(self, view: DefenderView) -> None:
        added, known = view.held_out(0.5)
        self._model, self._added, self._seed = view.model, added, view.seed()
        parts = torch.arange(len(known)).split(SCREENED)
        scores = torch.cat([self.screen(known.batch(part)) for part in parts])
        self.threshold = float(scores.quantile(1 - self.fpr))
        self.report["calibration_images"] = len(known)

    def screen(self, images: Tensor) -> Tensor:
        drawn = [
            torch.randint(len(self._added), (self.overlays,), generator=generator)
            for generator in of_each(to_bytes(images), self._seed)
        ]
        chosen = torch.cat(drawn)
        added = self._added.batch(chosen).unflatten(0, (len(images), self.overlays))
        blends = (images[:, None] + added).clamp_(0.0, 1.0)
        log_p = predict(self._model, blends.flatten(0, 1)).log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1)
        return -entropy.view(len(images), self.overlays).mean(1)
