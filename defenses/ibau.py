"""I-BAU: trains against the worst universal perturbation, by implicit hypergradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from defenses.base import Repair, defense
from defenses.view import DefenderView
from fixtures.training import autocast

Loss = Callable[[Tensor], Tensor]
"""Perturbation [1, C, H, W] -> the loss of one batch under it, a scalar."""

LEAST = 16
"""Images of a batch where a tenth of the clean images is fewer than this."""


@defense("ibau", source="Zeng et al. 2022, arXiv:2110.03735")
class IBAU(Repair):
    """Minimise the loss under the worst universal perturbation, by implicit hypergradients.

    Question: can the model be made to ignore every common perturbation, the trigger among them?
    Each round finds one perturbation of L2 norm up to ``radius`` that raises the loss on clean
    images most (``inner`` steps of normalised gradient ascent). Then, ``outer`` times, the weights
    move down the gradient of that loss, and with it how the worst perturbation itself moves as the
    weights do: the implicit term, from ``fixed_point`` iterations of the map
    delta -> delta + ``pace`` * gradient, as in the paper.

    Deviates from the paper: half of each outer loss is that of unperturbed images, so that accuracy
    on those holds; the norm is bounded, not priced, and the bound is left out of the map. A batch
    is no more than a tenth of the clean images, so that two differ (16 where that is fewer): on
    digits, with 72 images, accuracy on training images is then no lower than with 100 drawn from
    them. All ``rounds`` are made: the raised loss still falls in the last. Assumes a trigger that
    one perturbation within ``radius`` can mimic. Costs double backward passes, and
    accuracy.
    """

    def __init__(
        self,
        radius: float = 3.0,
        rounds: int = 15,
        inner: int = 5,
        outer: int = 5,
        fixed_point: int = 2,
        pace: float = 0.1,
        lr: float = 2e-3,
        batch: int = 100,
    ) -> None:
        self.radius = radius
        self.rounds = rounds
        self.inner = inner
        self.outer = outer
        self.fixed_point = fixed_point
        self.pace = pace
        self.lr = lr
        self.batch = batch

    def repair(self, view: DefenderView) -> nn.Module:
        net = view.model.eval()
        weights = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=self.lr)
        self.report |= {"raised_loss": [], "images_a_batch": self.images(len(view.clean))}
        for _ in range(self.rounds):
            delta, raised = self.worst(view)
            self.report["raised_loss"].append(raised)
            for _ in range(self.outer):
                for weight, slope in zip(
                    weights, self.hypergradient(view, weights, delta), strict=True
                ):
                    weight.grad = slope
                optimizer.step()
        return net

    def images(self, given: int) -> int:
        """Clean images a batch, of the number given."""
        return min(given, self.batch, max(LEAST, given // 10))

    def loss_on(self, view: DefenderView) -> Loss:
        """The loss of one random batch of clean images under a perturbation [1, C, H, W]."""
        batch = self.images(len(view.clean))
        index = torch.randint(len(view.clean), (batch,), generator=view.generator)
        images = view.clean.batch(index, view.device)
        labels = view.clean.labels[index].to(view.device)

        def loss(delta: Tensor) -> Tensor:
            moved = (images + delta).contiguous(memory_format=torch.channels_last)
            with autocast(view.device):
                logits = view.model(moved)
            return nn.functional.cross_entropy(logits.float(), labels)

        return loss

    def worst(self, view: DefenderView) -> tuple[Tensor, float]:
        """The perturbation [1, C, H, W] that raises the loss most, and a batch's loss under it."""
        delta = torch.zeros(1, *view.shape, device=view.device)
        for _ in range(self.inner):
            delta.requires_grad_(True)
            (slope,) = torch.autograd.grad(self.loss_on(view)(delta), delta)
            stepped = delta.detach() + 2 * self.radius / self.inner * slope / (slope.norm() + 1e-12)
            delta = stepped * (self.radius / stepped.norm().clamp(min=self.radius))
        with torch.no_grad():
            return delta, float(self.loss_on(view)(delta))

    def hypergradient(
        self, view: DefenderView, weights: Sequence[Tensor], worst: Tensor
    ) -> list[Tensor]:
        """The hypergradient of the outer loss at the perturbation ``worst`` [1, C, H, W].

        One tensor for each of ``weights``, of its shape.
        """
        loss, delta = self.loss_on(view), worst.clone().requires_grad_(True)
        hurt = loss(delta)
        slope, *direct = torch.autograd.grad(hurt, [delta, *weights], create_graph=True)
        calm = torch.autograd.grad(loss(torch.zeros_like(delta)), weights)
        moved = delta + self.pace * slope  # one step of ascent, a map of delta and the weights
        pull = outside = slope.detach() / 2
        for _ in range(self.fixed_point):  # pull = dF/d delta + (d moved/d delta)^T pull
            (back,) = torch.autograd.grad(moved, delta, pull, retain_graph=True)
            pull = outside + back
        implicit = torch.autograd.grad(moved, weights, pull, allow_unused=True)
        return [
            (d.detach() + c) / 2 + (0 if i is None else i)
            for d, c, i in zip(direct, calm, implicit, strict=True)
        ]
