"""Refuses the inputs that the model is surest of: the null baseline of input detectors."""

from __future__ import annotations

from torch import Tensor

from defenses.base import InputDetector, defense
from defenses.view import DefenderView
from fixtures.training import predict


@defense(
    "confidence", source="Hendrycks and Gimpel 2017, arXiv:1610.02136", family="null", null=True
)
class Confidence(InputDetector):
    """Refuse an input that the model is surer of than of almost all clean images.

    Question: does a trigger show in the model's own confidence? The score is the highest softmax
    probability; the threshold refuses ``fpr`` of the defender's clean images. A detector that does
    not beat this tells nothing that one forward pass does not.

    Turns the source's baseline round: there a low probability tells misclassified inputs from
    right ones, here a high one is suspicious, since a backdoor is learned firmly. Costs one forward
    pass. Fails where clean images reach the same confidence.
    """

    def __init__(self, fpr: float = 0.05) -> None:
        self.fpr = fpr

    def calibrate(self, view: DefenderView) -> None:
        self._model = view.model
        scores = predict(view.model, view.clean).double().softmax(1).amax(1)
        self.threshold = float(scores.quantile(1 - self.fpr))
        self.report |= {"calibrated_fpr": self.fpr, "calibration_images": len(view.clean)}

    def screen(self, images: Tensor) -> Tensor:
        return predict(self._model, images).double().softmax(1).amax(1)
