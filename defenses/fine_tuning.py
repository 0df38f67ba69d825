"""Trains on clean images and does nothing else: a null baseline of repairs."""

from __future__ import annotations

from types import MappingProxyType

from torch import nn

from defenses.base import Repair, defense
from defenses.view import DefenderView
from fixtures.recipes import changes


@defense("fine_tuning", source="Liu, Dolan-Gavitt, Garg 2018, arXiv:1805.12185", null=True)
class FineTuning(Repair):
    """Fine-tune the whole network on the clean split and do nothing else.

    Question: does a backdoor survive training on clean images? The recipe is that of `fine_pruning`
    after its pruning, so what pruning adds is the difference between the two.

    Deviates from the paper, which names fine-tuning as the baseline: the victim's own recipe at
    ``lr_scale`` times its peak learning rate and random shifts of up to ``shift`` pixels, since the
    clean split is small. Assumes that training on images without the trigger undoes the backdoor,
    which takes a large learning rate: a small one leaves it as it was. Costs one small training
    run, and accuracy where clean images are few.
    """

    grid = MappingProxyType({"lr_scale": (1.0, 2.5, 5.0), "epochs": (10, 20, 40)})

    def __init__(
        self,
        epochs: int = 20,
        min_steps: int = 200,
        lr_scale: float = 2.5,
        shift: int = 2,
    ) -> None:
        self.lr_scale = lr_scale
        self.changes = changes(epochs=epochs, min_steps=min_steps, shift=shift)

    def repair(self, view: DefenderView) -> nn.Module:
        view.fine_tune(view.model, lr_scale=self.lr_scale, **self.changes)
        return view.model
