"""I-BAU: trains against the worst universal perturbation, by implicit hypergradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from defenses.base import Repair, defense
from defenses.view import DefenderView, images_a_step, passes

Batch = tuple[Tensor, Tensor]
"""Images float32 [B, C, H, W] and labels int64 [B], on the defender's device."""

Loss = Callable[[Tensor], Tensor]
"""Perturbation [1, C, H, W] -> a scalar."""


@defense("ibau", source="Zeng et al. 2022, arXiv:2110.03735")
class IBAU(Repair):
    """Minimise the loss under the worst universal perturbation, by implicit hypergradients.

    Question: can the model be made to ignore every common perturbation, the trigger among them?
    Each of ``rounds`` finds one perturbation that raises the loss on clean images most: a pass of
    gradient ascent at ``inner_lr``, with a price on its squared L2 norm, cut to ``radius``. Then
    another pass moves the weights by Adam down the loss of clean images of which a ``share`` carry
    the perturbation, and with it how the worst perturbation itself moves as the weights do: the
    implicit term, from ``fixed_point`` iterations of the map delta -> delta - ``pace`` * gradient
    of the inner loss. The network stays in evaluation mode. All of this, and the defaults, as in
    the paper's public code. Computed in float32: a hypergradient is a difference of small numbers.
    Attention is computed by the plain formula, whose second derivative exists.

    Deviates from that code: the perturbation is found by the labels of the clean images, not by
    what the model says of them; the map is that of the batch at hand, not of the first; a batch is
    no more than a tenth of the clean images, so that two differ (16 where that is fewer), and at
    least one image of it carries the perturbation; passes repeat where they make fewer than
    ``min_steps`` steps in all. Assumes a trigger that one perturbation within ``radius`` can mimic.
    Costs double backward passes, and accuracy.
    """

    grid = MappingProxyType({"lr": (3e-4, 1e-3, 3e-3), "share": (0.01, 0.1, 0.5)})

    def __init__(
        self,
        rounds: int = 5,
        radius: float = 10.0,
        price: float = 1e-3,
        inner_lr: float = 10.0,
        share: float = 0.01,
        fixed_point: int = 5,
        pace: float = 0.1,
        lr: float = 1e-3,
        batch: int = 100,
        min_steps: int = 100,
    ) -> None:
        self.rounds = rounds
        self.radius = radius
        self.price = price
        self.inner_lr = inner_lr
        self.share = share
        self.fixed_point = fixed_point
        self.pace = pace
        self.lr = lr
        self.batch = batch
        self.min_steps = min_steps

    def repair(self, view: DefenderView) -> nn.Module:
        net = view.model.eval()
        weights = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=self.lr)
        self.report |= {"raised_loss": [], "norms": []}
        self.report["images_a_batch"] = images_a_step(len(view.clean), self.batch)
        with sdpa_kernel(SDPBackend.MATH):
            for _ in range(self.rounds):
                delta, raised = self.worst(view)
                self.report["raised_loss"].append(raised)
                self.report["norms"].append(float(delta.norm()))
                for batch in self.batches(view):
                    carry = self.carriers(view, len(batch[0]))
                    slopes = hypergradient(
                        partial(self.outer, net, batch, carry),
                        partial(self.inner, net, batch),
                        delta,
                        weights,
                        pace=self.pace,
                        iterations=self.fixed_point,
                    )
                    for weight, slope in zip(weights, slopes, strict=True):
                        weight.grad = slope
                    optimizer.step()
        return net

    def batches(self, view: DefenderView) -> Iterator[Batch]:
        """Batches of the clean images and their labels, each image once, or as often as it takes to
        make a round's share of ``min_steps``; what is left over of a pass is left out."""
        count = len(view.clean)
        size = images_a_step(count, self.batch)
        steps = max(count // size, -(-self.min_steps // self.rounds))
        for index in islice(passes(count, size, view.generator), steps):
            yield view.clean.batch(index, view.device), view.clean.labels[index].to(view.device)

    def carriers(self, view: DefenderView, count: int) -> Tensor:
        """Which of so many images carry the perturbation, at random: one or zero, [B, 1, 1, 1]."""
        chosen = torch.randperm(count, generator=view.generator)
        carry = torch.zeros(count, 1, 1, 1)
        carry[chosen[: max(1, round(self.share * count))]] = 1
        return carry.to(view.device)

    def inner(self, net: nn.Module, batch: Batch, delta: Tensor) -> Tensor:
        """What the perturbation [1, C, H, W] minimises: a scalar."""
        return self.price * delta.square().sum() - _loss(net, batch[0] + delta, batch[1])

    def outer(self, net: nn.Module, batch: Batch, carry: Tensor, delta: Tensor) -> Tensor:
        """What the weights minimise, of a batch of which some carry it: a scalar."""
        return _loss(net, batch[0] + carry * delta, batch[1])

    def worst(self, view: DefenderView) -> tuple[Tensor, float]:
        """The perturbation [1, C, H, W] that raises the loss most, and a batch's loss under it."""
        delta = torch.zeros(1, *view.shape, device=view.device)
        batch = None
        for batch in self.batches(view):
            delta.requires_grad_(True)
            (slope,) = torch.autograd.grad(self.inner(view.model, batch, delta), delta)
            delta = delta.detach() - self.inner_lr * slope
        delta = delta * (self.radius / delta.norm().clamp(min=self.radius))
        assert batch is not None
        with torch.no_grad():
            return delta, float(_loss(view.model, batch[0] + delta, batch[1]))


def hypergradient(
    outer: Loss,
    inner: Loss,
    worst: Tensor,
    weights: Sequence[Tensor],
    *,
    pace: float,
    iterations: int,
) -> list[Tensor]:
    """How ``outer`` changes with the weights where ``worst`` [1, C, H, W] minimises ``inner``.

    One tensor for each of ``weights``, of its shape.
    """
    delta = worst.clone().requires_grad_(True)
    outside, *direct = torch.autograd.grad(outer(delta), [delta, *weights], materialize_grads=True)
    (slope,) = torch.autograd.grad(inner(delta), delta, create_graph=True)
    moved = delta - pace * slope  # one step of descent, a map of delta and the weights
    pull = torch.zeros_like(outside)
    for _ in range(iterations):  # pull = dF/d delta + (d moved/d delta)^T pull
        (back,) = torch.autograd.grad(moved, delta, pull, retain_graph=True)
        pull = outside + back
    implicit = torch.autograd.grad(moved, weights, pull, materialize_grads=True)
    return [d + i for d, i in zip(direct, implicit, strict=True)]


def _loss(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in float32, a scalar."""
    logits = net(images.contiguous(memory_format=torch.channels_last))
    return nn.functional.cross_entropy(logits, labels)
