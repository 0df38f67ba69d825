"""Accuses the largest class: what a detector of poisoned samples scores without looking."""

from __future__ import annotations

from defenses.base import SampleDetector, SampleVerdict, defense
from defenses.view import DefenderView


@defense("largest_class", family="null", null=True)
class LargestClass(SampleDetector):
    """Flag every sample of the class that has most of them.

    Question: what do counts alone tell? Poison makes its target's class larger, which is all that
    is used here: a sample's score is the size of its class as a share of the training set, and all
    of the largest class is flagged. A detector that does not beat this has found nothing in images
    or model.

    Costs nothing. Names the target where the poison outweighs how much classes differ by nature,
    and then flags all of its clean samples, too.
    """

    sees = frozenset({"suspect"})

    def detect(self, view: DefenderView) -> SampleVerdict:
        labels = view.suspect.labels
        sizes = labels.bincount(minlength=view.num_classes)
        self.report["accused"] = int(sizes.argmax())
        return SampleVerdict(sizes[labels] / len(labels), labels == sizes.argmax())
