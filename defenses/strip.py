"""STRIP: a triggered input keeps its prediction when clean images are added to it."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.base import DefenderView, InputDetector, defense
from fixtures.training import predict


@defense("strip", source="Gao et al. 2019, arXiv:1902.06531")
class Strip(InputDetector):
    """Refuse an input whose prediction stays sure when clean images are added to it.

    Question: does one part of this input decide its class? Each input is added to ``overlays``
    random clean images, pixels cut at white as in the paper, and the score is the mean entropy of
    the predictions, negated: low entropy means triggered. The threshold refuses ``fpr`` of the
    defender's own clean images, which are screened in the same way against the others; no triggered
    input is needed.

    Deviates from the paper: ten overlays where it takes 100, of one half of the clean split, with
    the threshold from the other half, and the quantile itself where the paper fits a normal
    distribution. Assumes one trigger that works on any background. Costs ten forward passes an
    input. Fails for triggers that the overlay destroys: blurs, warps, and triggers that belong to
    their own image only.
    """

    def __init__(self, overlays: int = 10, fpr: float = 0.05) -> None:
        self.overlays = overlays
        self.fpr = fpr

    def screen(self, view: DefenderView, images: Tensor) -> Tensor:
        order = torch.randperm(view.clean.size, generator=view.generator)
        half = view.clean.size // 2
        overlays = view.clean.images[order[:half]]
        known = -self._entropy(view, view.clean.images[order[half:]], overlays)
        self.threshold = float(known.quantile(1 - self.fpr))
        self.report |= {"calibrated_fpr": self.fpr, "calibration_images": len(known)}
        return -self._entropy(view, images, overlays)

    def _entropy(self, view: DefenderView, images: Tensor, overlays: Tensor) -> Tensor:
        """Mean entropy of the predictions for each image under its overlays, in nats: [N]."""
        found = []
        for part in images.split(500):
            chosen = torch.randint(
                len(overlays), (len(part), self.overlays), generator=view.generator
            )
            blends = (part[:, None] + overlays[chosen]).clamp(0.0, 1.0)
            log_p = predict(view.model, blends.flatten(0, 1)).log_softmax(1)
            entropy = -(log_p.exp() * log_p).sum(1)
            found.append(entropy.view(len(part), self.overlays).mean(1))
        return torch.cat(found)
