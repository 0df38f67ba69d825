"""Neural Cleanse: recovers the smallest patch that turns images into each class."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from defenses.base import ModelDetector, ModelVerdict, Repair, defense
from defenses.trigger_search import Search, Triggers, recover
from defenses.view import DefenderView
from fixtures.recipes import changes

SOURCE = "Wang et al. 2019, doi:10.1109/SP.2019.00031"


@defense("neural_cleanse", source=SOURCE)
class NeuralCleanse(ModelDetector):
    """Recover the smallest trigger towards every class; one far smaller is a backdoor.

    Question: is there a class that a small patch reaches from everywhere? Mask and pattern of all
    classes are optimised together, in one batched forward pass: cross-entropy towards the class
    plus a price on the mask's L1 norm, which rises while the mask flips at least 99 % of the images
    of other classes and falls while it does not. A class's mask is the smallest at such a moment.
    The anomaly index of a class is how far its norm lies below the median of all classes, in units
    of 1.4826 times the median absolute deviation; above ``threshold``, 2 in the paper, a class is
    accused.

    Two traps of public code are avoided: the price starts above zero, and a mask that does not flip
    the model is never the best one. A class without any such mask counts as the whole image, and
    where half of the classes have none, nobody is accused.

    Deviates from the paper: Adam steps for all classes at once, evaluated every ten steps on the
    images of those, not passes over the whole set; where there are fewer than 320 clean images, a
    step takes a tenth of them. The early stopping is that of the paper's public code
    (github.com/bolunwang/backdoor), for each class alone: one whose smallest mask has shrunk by
    less than 1 % in five evaluations, or in as many as it takes to see every clean image, leaves
    the batch, where the code waits for 25 and for any gain; 400 steps are the most. Five were
    chosen by the masks' norms alone. On 27 MNIST models a class then takes 375 steps on average,
    and every verdict is that of 400 for each.

    Assumes one target, or a few, that a small, fixed patch reaches: it compares each class with the
    median of all, so it accuses none where every class is a target, and is not made for triggers
    that no small patch stands for. Costs about as much as training the victim.
    """

    def __init__(self, threshold: float = 2.0, **search: Any) -> None:
        self.threshold = threshold
        self.search = Search(**search)

    def inspect(self, view: DefenderView) -> ModelVerdict:
        found = recover(view, self.search)
        anomaly = anomaly_index(found)
        suspects = accused(anomaly, self.threshold)
        self.report |= {"norms": found.norms.tolist(), "flips": found.flips.tolist()}
        self.report["steps"] = found.steps.tolist()
        return ModelVerdict(anomaly, bool(suspects), suspects, found.masks, found.patterns)


@defense("neural_cleanse_unlearning", source=SOURCE)
class NeuralCleanseUnlearning(Repair):
    """Fine-tune with the triggers that Neural Cleanse recovers, under the right labels.

    Question: if the recovered trigger is the backdoor, can the model be taught to ignore it? A
    fifth of each batch of clean images (``share``) is stamped with the trigger of an accused class
    and keeps its label, as in the paper. A model that Neural Cleanse calls clean is returned as it
    came.

    Deviates from the paper: ``epochs`` over the small clean split by the victim's own recipe and
    with random shifts of up to ``shift`` pixels, not one epoch over a tenth of the training set.
    Assumes what Neural Cleanse assumes, and costs a small training run more; the search is made
    once where `neural_cleanse` made it before in the same process. It can unlearn no more than the
    search recovers.
    """

    grid = MappingProxyType({"share": (0.1, 0.2, 0.5), "lr_scale": (0.5, 1.0, 2.5)})

    def __init__(
        self,
        threshold: float = 2.0,
        share: float = 0.2,
        epochs: int = 10,
        min_steps: int = 200,
        lr_scale: float = 1.0,
        shift: int = 2,
        **search: Any,
    ) -> None:
        self.threshold = threshold
        self.share = share
        self.lr_scale = lr_scale
        self.changes = changes(epochs=epochs, min_steps=min_steps, shift=shift)
        self.search = Search(**search)

    def repair(self, view: DefenderView) -> nn.Module:
        found = recover(view, self.search)
        suspects = accused(anomaly_index(found), self.threshold)
        self.report |= {"suspects": list(suspects), "steps": found.steps.tolist()}
        if not suspects:
            return view.model
        triggers = Triggers(*(part.to(view.device) for part in found))
        targets = torch.tensor(suspects)

        def on_batch(images: Tensor, labels: Tensor, _index: Tensor) -> tuple[Tensor, Tensor]:
            draws = torch.rand(len(images), generator=view.generator)
            chosen = (draws < self.share).nonzero().flatten().to(view.device)
            which = torch.randint(len(suspects), (len(chosen),), generator=view.generator)
            images[chosen] = triggers.stamp(images[chosen], targets[which].to(view.device))
            return images, labels

        view.fine_tune(view.model, lr_scale=self.lr_scale, on_batch=on_batch, **self.changes)
        return view.model


def anomaly_index(found: Triggers) -> Tensor:
    """How far each norm lies below the median, in consistent median absolute deviations: [K].

    Zero of a class that was not searched. All zero where half of the others have no mask: they
    leave nothing to compare with. A spread of less than a hundredth of the median is taken for
    that.
    """
    searched = found.steps > 0
    norms = found.norms.double()[searched]
    anomaly = torch.zeros(len(searched), dtype=torch.double)
    if 2 * int(found.masks.flatten(1).any(1).sum()) <= len(norms):
        return anomaly
    median = norms.quantile(0.5)
    spread = 1.4826 * (norms - median).abs().quantile(0.5)
    anomaly[searched] = (median - norms) / torch.maximum(spread, median / 100)
    return anomaly


def accused(anomaly: Tensor, threshold: float) -> tuple[int, ...]:
    """The classes whose anomaly exceeds the threshold."""
    return tuple((anomaly > threshold).nonzero().flatten().tolist())
