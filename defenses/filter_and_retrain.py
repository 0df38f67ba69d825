"""Trains the network anew without the training samples that a detector flags."""

from __future__ import annotations

from typing import Any

from torch import nn

from defenses.base import DEFENSES, DefenderView, Repair, SampleDetector, defense
from fixtures.models import cannot_reset, untrained
from fixtures.training import fit


@defense("filter_and_retrain", source="Chen et al. 2018, arXiv:1811.03728")
class FilterAndRetrain(Repair):
    """Remove the samples that a detector flags and train the network anew on the rest.

    Question: is the detection good enough to act on? ``detector`` is the name of any
    `SampleDetector`; further arguments are its own. The same network is drawn anew and trained by
    the recipe that the view names, the victim's own.

    Assumes that the training set carries the backdoor, and that the detector misses little of the
    poison: half a per cent of the training set is enough for most triggers. Where nothing is
    flagged, the model is returned as it came. Costs the detection and a whole training. Fails where
    its detector does. Does not apply where the detector does not, nor to a network with weights
    that cannot be drawn anew. Raises ValueError where ``detector`` is no `SampleDetector`.
    """

    def __init__(self, detector: str = "activation_clustering", **params: Any) -> None:
        found = DEFENSES.create(detector, **params)
        if not isinstance(found, SampleDetector):
            raise ValueError(f"{detector!r} is no SampleDetector: it flags no training samples")
        self.detector = found
        self.uses = (detector,)

    def supports(self, view: DefenderView) -> str | None:
        return self.detector.supports(view) or cannot_reset(view.model)

    def repair(self, view: DefenderView) -> nn.Module:
        flags = self.detector.detect(view).flags
        if not flags.any():
            self.report |= {"removed": 0, "kept": len(flags)}
            return view.model
        kept = view.suspect.take((~flags).nonzero().flatten())
        self.report |= {"removed": int(flags.sum()), "kept": kept.size}
        if kept.size == 0:
            raise ValueError("the detector flagged every sample: nothing is left to train on")
        net = untrained(view.model, view.seed())
        fit(net, kept, view.recipe, generator=view.generator)
        return net
