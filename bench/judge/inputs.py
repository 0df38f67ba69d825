"""Judges a detector of triggered inputs by the scores it gives clean and triggered ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.judge import formulas
from bench.judge.common import Outcome, asr_before, every_trigger
from bench.runtime.costs import cost
from bench.runtime.verdicts import check_scores, check_threshold, seeing
from bench.victims import Victim
from defenses import DefenderView, InputDetector
from fixtures.errors import NotApplicable
from fixtures.images import ImageSet

SCREENED = 64
"""Inputs that a detector sees at once, at most."""


def judge_inputs(
    plugin: str, defense: InputDetector, view: DefenderView, victim: Victim
) -> Outcome:
    """AUROC and TPR at 5 % FPR; TPR and FPR at the threshold that it chose, if it chose one.

    It is calibrated before it sees an input, and then sees them in small mixed batches.
    """
    inputs = Inputs.of(victim)
    truth = inputs.sources > 0
    scores = torch.empty(len(truth), dtype=torch.float64)
    with cost() as defending:
        with seeing(plugin, view):
            defense.calibrate(view)
        threshold = check_threshold(plugin, defense.threshold)
        for places in inputs.batches():
            images = inputs.read(places)
            with seeing(plugin, view), torch.no_grad():
                raw = defense.screen(images)
            scores[places] = check_scores(plugin, "screen", raw, len(places))
    if threshold is None and not bool(truth.any()):
        raise NotApplicable("it sets no threshold, and on a clean model no input is triggered")
    found = {}
    if bool(truth.any()):
        found = formulas.screening(scores, truth) | asr_before(victim)
    if threshold is not None:
        refused = scores > threshold
        found["fpr"] = formulas.share(refused[~truth])
        if bool(truth.any()):
            found["tpr"] = formulas.share(refused[truth])
    return found, {"defend": defending}, {}


@dataclass(frozen=True)
class Inputs:
    """All test images, and those that a trigger is to work on once more with it.

    ``sets``: the clean ones, then those of each trigger. Input i is the image at ``positions`` [i]
    of ``sets[sources[i]]``; both int64 [M].
    """

    sets: tuple[ImageSet, ...]
    sources: Tensor
    positions: Tensor

    @classmethod
    def of(cls, victim: Victim) -> Inputs:
        """On a clean model nothing is triggered: nothing to tell apart, only to refuse wrongly."""
        test = victim.dataset.test
        triggered = every_trigger(victim) if victim.attack.backdoors else []
        sets = (test, *(one.images for one in triggered))
        positions = [
            torch.arange(len(test)),
            *(one.counts.nonzero().flatten() for one in triggered),
        ]
        counts = torch.tensor([len(part) for part in positions])
        sources = torch.arange(len(sets)).repeat_interleave(counts)
        return cls(sets, sources, torch.cat(positions))

    def batches(self) -> Iterator[Tensor]:
        """Places of inputs, int64 [B], in an order drawn once for all detectors.

        Test images are drawn into two halves. A batch holds clean images of the one and triggered
        images of the other, so that none stands beside its own triggered twin.
        """
        generator = torch.Generator().manual_seed(0)
        half = torch.rand(len(self.sets[0]), generator=generator) < 0.5
        triggered = self.sources > 0
        for side in (half[self.positions] == triggered, half[self.positions] != triggered):
            places = side.nonzero().flatten()
            yield from places[torch.randperm(len(places), generator=generator)].split(SCREENED)

    def read(self, places: Tensor) -> Tensor:
        """Those inputs: float32 [B, C, H, W], a new tensor on the CPU."""
        images = torch.empty(len(places), *self.sets[0].shape)
        for source, images_of in enumerate(self.sets):
            here = self.sources[places] == source
            images[here] = images_of.batch(self.positions[places[here]])
        return images
