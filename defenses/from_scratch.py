"""Throws the network away and trains a fresh one: the null baseline of repairs."""

from __future__ import annotations

from types import MappingProxyType

from torch import nn

from defenses.base import Repair, defense
from defenses.view import DefenderView


@defense("from_scratch", family="null", null=True)
class FromScratch(Repair):
    """Throw the network away and train a fresh one of its architecture on the clean images alone.

    Question: is the victim worth repairing? No backdoor survives this, so a repair that does not
    reach a better trade of accuracy and ASR with the same images has gained nothing by starting
    from the victim. The recipe is the victim's own, but for at least ``min_steps`` steps, random
    shifts of up to ``shift`` pixels, ``label_smoothing`` and a peak learning rate ``lr_scale``
    times as high. These were chosen on validation images, on MNIST with 50 images of each class
    and on digits with 7, over seeds that no study runs.

    Costs one small training run. Its accuracy is that of the clean images alone: it fails where
    they are few. Does not apply to a network whose architecture is not known.
    """

    sees = frozenset({"clean"})
    grid = MappingProxyType({"lr_scale": (1.0, 2.5, 5.0), "min_steps": (400, 800, 1600)})

    def __init__(
        self,
        min_steps: int = 800,
        shift: int = 2,
        label_smoothing: float = 0.1,
        lr_scale: float = 2.5,
    ) -> None:
        self.min_steps = min_steps
        self.shift = shift
        self.label_smoothing = label_smoothing
        self.lr_scale = lr_scale

    def supports(self, view: DefenderView) -> str | None:
        known = view.fresh is not None
        return None if known else "the network's architecture is not known"

    def repair(self, view: DefenderView) -> nn.Module:
        return view.train(
            view.clean,
            min_steps=self.min_steps,
            shift=self.shift,
            label_smoothing=self.label_smoothing,
            lr_scale=self.lr_scale,
        )
