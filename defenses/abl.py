"""Isolates the samples that are learnt first, trains on the rest, and unlearns those."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses.base import Training, defense
from defenses.isolation import isolate
from defenses.view import DefenderView
from fixtures.images import ImageSet
from fixtures.training import fit


@defense("abl", source="Li et al. 2021, arXiv:2110.11571", family="unlearning")
class ABL(Training):
    """Anti-backdoor learning: isolate what is learnt first, train on the rest, unlearn the former.

    Question: is poison learnt faster than anything else? For an ``early`` share of the victim's
    passes, one at least, a network is trained with local gradient ascent: samples whose loss is
    under ``gamma`` are pushed back to it. The ``isolated`` share of all samples whose loss is then
    least is taken for poison; training goes on without it, by the victim's recipe; at last those
    samples are unlearnt, by gradient ascent at ``ascent_lr`` of the recipe's learning rate for
    ``ascent`` passes over them, until their loss is that of a guess.

    Deviates from the paper: the two phases of training have a cycle of the learning rate each, and
    the ascent stops at a guess. Assumes that poison is learnt first and is more than what is
    isolated. Costs little more than one training. A clean class that is easy is unlearnt instead
    where there is no poison.
    """

    sees = frozenset({"suspect"})

    def __init__(
        self,
        early: float = 0.2,
        gamma: float = 0.5,
        isolated: float = 0.01,
        ascent: int = 20,
        ascent_lr: float = 0.1,
    ) -> None:
        for name, value in (("early", early), ("isolated", isolated)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} is a share between 0 and 1, got {value}")
        self.early = early
        self.gamma = gamma
        self.isolated = isolated
        self.ascent = ascent
        self.ascent_lr = ascent_lr

    def train(self, view: DefenderView) -> nn.Module:
        net, quick = isolate(view, self.early, self.gamma, self.isolated)
        self.report["isolated"] = len(quick)
        kept = torch.ones(len(view.suspect), dtype=torch.bool)
        kept[quick] = False
        fit(net, view.suspect.take(kept), view.recipe, generator=view.generator)
        self._unlearn(net, view, view.suspect.take(quick))
        return net

    def _unlearn(self, net: nn.Module, view: DefenderView, samples: ImageSet) -> None:
        guess = float(torch.tensor(float(view.num_classes)).log())

        def ascend(logits: Tensor, labels: Tensor, _index: Tensor) -> Tensor:
            return -cross_entropy(logits, labels, reduction="none").clamp(max=guess)

        recipe = dataclasses.replace(
            view.recipe,
            epochs=self.ascent,
            min_steps=0,
            peak_lr=self.ascent_lr * view.recipe.peak_lr,
            schedule="constant",
        )
        fit(net, samples, recipe, generator=view.generator, loss=ascend)
