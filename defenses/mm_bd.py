"""The largest margin that any input can have for each class: a backdoor's target stands out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from defenses.base import ModelDetector, ModelVerdict, defense
from defenses.outlier import too_few
from defenses.view import DefenderView
from fixtures.training import autocast

TOGETHER = 1 << 18
"""Pixels of the inputs of one forward pass: classes take turns where theirs are more."""

LEAST = 0.01
"""Spread of margins, as a share of their mean: with less, any difference would be a surprise."""


@defense("mm_bd", source="Wang et al. 2024, arXiv:2205.06900", family="margin")
class MMBD(ModelDetector):
    """Maximise each class's margin over all inputs; one far larger than the others is a backdoor.

    Question: is there a class that the network can be surer of than of any other? The margin of a
    class is its logit less the largest other one. From ``starts`` random images, Adam climbs it for
    ``steps`` steps, inside [0, 1]; the largest that is met counts. The margins of all classes but
    the one with the largest are fitted by a Gamma distribution. Where the largest of so many draws
    from it would reach this one with a probability under ``level``, the model is called backdoored
    and that class accused.

    Needs no image at all, and assumes nothing of the trigger. Deviates from the paper: Adam for a
    fixed number of steps, not gradient ascent until it stops; the distribution starts at 0. Assumes
    one target: where many classes are targets none stands out. Does not apply to fewer than four
    classes. Costs ``starts`` x ``steps`` forward and backward passes of one image a class.
    """

    sees = frozenset({"model"})

    def __init__(
        self, starts: int = 10, steps: int = 200, lr: float = 0.1, level: float = 0.05
    ) -> None:
        self.starts = starts
        self.steps = steps
        self.lr = lr
        self.level = level

    def supports(self, view: DefenderView) -> str | None:
        return too_few(view.num_classes)

    def inspect(self, view: DefenderView) -> ModelVerdict:
        view.model.eval().requires_grad_(False)
        pixels = self.starts * view.shape[1] * view.shape[2]
        some = torch.arange(view.num_classes).split(max(1, TOGETHER // pixels))
        margins = torch.cat([self._margins(view, classes) for classes in some])
        anomaly = surprise(margins)
        worst = int(anomaly.argmax())
        chance = largest(float(anomaly[worst]), view.num_classes)
        self.report |= {"margins": margins.tolist(), "chance": chance}
        accused = (worst,) if chance < self.level else ()
        return ModelVerdict(anomaly, bool(accused), accused)

    def _margins(self, view: DefenderView, classes: Tensor) -> Tensor:
        """The largest margin met for each of some classes, float64 on the CPU."""
        shape = (len(classes) * self.starts, *view.shape)
        images = torch.rand(shape, generator=view.generator).to(view.device).requires_grad_()
        wanted = classes.repeat_interleave(self.starts).to(view.device)[:, None]
        climber = torch.optim.Adam([images], lr=self.lr)
        best = torch.full((len(wanted),), -torch.inf, device=view.device)
        for _ in range(self.steps):
            with autocast(view.device):
                logits = view.model(images).float()
            margin = logits.gather(1, wanted)[:, 0] - logits.scatter(1, wanted, -torch.inf).amax(1)
            best = torch.maximum(best, margin.detach())
            climber.zero_grad()
            (-margin.sum()).backward()
            climber.step()
            with torch.no_grad():
                images.clamp_(0.0, 1.0)
        return best.view(len(classes), self.starts).amax(1).double().cpu()


def surprise(margins: Tensor) -> Tensor:
    """Minus the logarithm of the chance of a larger margin, by the classes other than the largest.

    Margins float64 [K] -> [K], 700 at most. A spread of the others of less than a hundredth of
    their mean is taken for that.
    """
    from scipy.stats import gamma

    others = margins.sort().values[:-1].clamp(min=1e-6)
    mean = float(others.mean())
    if float(others.std()) < LEAST * mean:
        shape, scale = LEAST**-2, mean * LEAST**2
    else:
        shape, _, scale = gamma.fit(others.numpy(), floc=0)
    return torch.from_numpy(-gamma.logsf(margins.numpy(), shape, scale=scale)).clamp(0.0, 700.0)


def largest(surprise: float, draws: int) -> float:
    """The chance that the largest of so many draws is as much of a surprise as this one."""
    if surprise == 0.0:
        return 1.0
    return -math.expm1(draws * math.log1p(-math.exp(-surprise)))
