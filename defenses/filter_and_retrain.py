"""Trains the network anew without the training samples that a detector flags."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from torch import nn

from defenses.base import DEFENSES, Repair, SampleDetector, defense
from defenses.view import DefenderView


@defense("filter_and_retrain", source="Chen et al. 2018, arXiv:1811.03728")
class FilterAndRetrain(Repair):
    """Remove the samples that a detector flags and train the network anew on the rest.

    Question: is the detection good enough to act on? ``detector`` is the name of any
    `SampleDetector`; further arguments are its own. A fresh network of the same architecture is
    trained by the victim's own recipe.

    Assumes that the training set carries the backdoor, and that the detector misses little of the
    poison: half a per cent of the training set is enough for most triggers. Where nothing is
    flagged, the model is returned as it came. Costs the detection and a whole training. It can
    remove no more than its detector finds. Does not apply where the detector does not, nor to a
    network whose architecture is not known. Raises ValueError where ``detector`` is no
    `SampleDetector`.
    """

    sees = frozenset({"model", "clean", "suspect"})
    grid = MappingProxyType({"detector": ("activation_clustering", "spectral_signatures")})

    def __init__(self, detector: str = "activation_clustering", **params: Any) -> None:
        found = DEFENSES.create(detector, **params)
        if not isinstance(found, SampleDetector):
            raise ValueError(f"{detector!r} is no SampleDetector: it flags no training samples")
        self.detector = found
        self.uses = (detector,)

    def supports(self, view: DefenderView) -> str | None:
        unknown = "the network's architecture is not known: it cannot be trained anew"
        return self.detector.supports(view) or (unknown if view.fresh is None else None)

    def repair(self, view: DefenderView) -> nn.Module:
        flags = self.detector.detect(view).flags
        self.report |= {"removed": int(flags.sum()), "kept": int((~flags).sum())}
        if flags.all():
            raise ValueError("the detector flagged every sample: nothing is left to train on")
        if not flags.any():
            return view.model
        return view.train(view.suspect.take(~flags))
