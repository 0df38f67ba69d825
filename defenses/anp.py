"""Adversarial neuron pruning: removes the neurons whose perturbation does the most harm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.func import functional_call

from defenses.base import Repair, defense
from defenses.view import DefenderView, images_a_step
from fixtures.anatomy import Anatomy, Units, means
from fixtures.images import ImageSet
from fixtures.training import accuracy, autocast

Neurons = list[Tensor]
"""One number for each neuron of each `Units` in turn, float32 [U]."""


@defense("anp", source="Wu and Wang 2021, arXiv:2110.14430")
class ANP(Repair):
    """Prune the neurons that are most easily perturbed into misclassifying clean images.

    Question: which neurons does the backdoor need? Every neuron gets a mask in [0, 1], learned on
    clean images to keep the loss low both as it is and when an adversary changes each neuron's
    scale and shift by up to ``eps`` of themselves: ``alpha`` of the one loss and the rest of the
    other. The adversary takes one signed gradient step from a random start, as in the paper.
    Neurons are then pruned in order of their mask, a ``part`` of all of them at a time, as far as
    accuracy on a held-out part of the clean split stays within ``tolerance``. The paper's public
    benchmark picks how far by the ASR on test data, which no defender has.

    Neurons are the channels of every batch norm, as in the paper's code: the mask scales a
    channel's weight and leaves its bias, so that a pruned neuron puts out a constant. A network
    without batch norm, which that code does not treat, is treated as if every layer with a bias had
    one: each neuron's output is its mean over clean images plus a deviation that is masked. A
    perturbation of the weights alone would never activate a neuron whose output lies far below zero
    on clean images.

    Batch norms go by the statistics of the batch while masks are learned, as in that code: by
    their running statistics the backdoor's neurons are found too, but so are those of its target
    (CIFAR-10, 10 % pixel: 2 % of accuracy lost in place of 10 for the same ASR).

    Deviates from the paper: ``steps`` are fewer, and neurons are ordered by the mean of their mask
    over all steps: many masks end at zero, and those that got there first have the smaller mean. A
    step takes ``batch`` images, but no more than a tenth of those that there are, so that two steps
    differ (16 where that is fewer): on digits, with 58 images, accuracy on training images after
    pruning is no lower than with 128 drawn from them. Assumes that the backdoor has neurons of its
    own which an adversary finds without the trigger: all that its adversary changes is what clean
    images make of each neuron. Costs three forward and backward passes a step. Does not apply to a
    network in which no layer but the last has a bias.
    """

    grid = MappingProxyType({"eps": (0.2, 0.4, 0.6), "tolerance": (0.01, 0.03, 0.1)})

    def __init__(
        self,
        eps: float = 0.4,
        alpha: float = 0.2,
        steps: int = 150,
        batch: int = 128,
        lr: float = 0.2,
        part: float = 1 / 128,
        tolerance: float = 0.01,
        held_out: float = 0.2,
    ) -> None:
        self.eps = eps
        self.alpha = alpha
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.part = part
        self.tolerance = tolerance
        self.held_out = held_out

    def supports(self, view: DefenderView) -> str | None:
        if not prunable(view.anatomy()):
            return f"{type(view.model).__name__} has no layer with a bias before its last one"
        return None

    def repair(self, view: DefenderView) -> nn.Module:
        net = view.model.eval()
        held_out, rest = view.held_out(self.held_out)
        network = Neural(net, prunable(view.anatomy()), rest)
        masks = self._masks(network, rest, view.generator)
        order = torch.cat(masks).argsort(stable=True)

        self.report |= {"pruned": 0, "neurons": len(order)}
        self.report["normalised"] = network.units[0].normalised
        original = copy.deepcopy(net.state_dict())
        best, self.report["curve"] = original, []
        floor = accuracy(net, held_out) - self.tolerance
        stride = max(1, round(self.part * len(order)))
        for count in range(stride, len(order), stride):
            net.load_state_dict(original)
            alive = without(masks, order[:count])
            changed = {**original, **network.perturbed(alive, ones_like(alive))}
            net.load_state_dict(changed)
            point = {"pruned": count, "clean_accuracy": accuracy(net, held_out)}
            self.report["curve"].append(point)
            if point["clean_accuracy"] < floor:
                break
            best = changed
            self.report["pruned"] = count
        net.load_state_dict(best)
        return net

    def _masks(self, network: Neural, data: ImageSet, generator: torch.Generator) -> Neurons:
        """The mask of every neuron, in [0, 1], on average over the steps that learn it."""
        device = network.centres[0].device
        data = data.resident(device)
        masks = [torch.ones_like(centre).requires_grad_(True) for centre in network.centres]
        learned = [torch.zeros_like(mask) for mask in masks]
        optimizer = torch.optim.SGD(masks, lr=self.lr, momentum=0.9)

        def noise() -> Neurons:
            return [
                (torch.rand(mask.shape, generator=generator).to(device) * 2 - 1) * self.eps
                for mask in masks
            ]

        batch = images_a_step(len(data), self.batch)
        self.report |= {"steps": self.steps, "images_a_step": batch}
        for _ in range(self.steps):
            index = torch.randint(len(data), (batch,), generator=generator)
            some = data.batch(index, device), data.labels[index].to(device)
            of_scale, of_shift = noise(), noise()
            flat = [nudge.requires_grad_(True) for nudge in (*of_scale, *of_shift)]
            fixed, still = [mask.detach() for mask in masks], ones_like(masks)
            hurt = network.loss(*some, sums(fixed, of_scale), sums(still, of_shift))
            for nudge, slope in zip(flat, torch.autograd.grad(hurt, flat), strict=True):
                nudge.requires_grad_(False)
                nudge.add_(self.eps * slope.sign()).clamp_(-self.eps, self.eps)
            calm = network.loss(*some, masks, still)
            robust = network.loss(*some, sums(masks, of_scale), sums(still, of_shift))
            optimizer.zero_grad(set_to_none=True)
            (self.alpha * calm + (1 - self.alpha) * robust).backward()
            optimizer.step()
            with torch.no_grad():
                for mask, total in zip(masks, learned, strict=True):
                    total += mask.clamp_(0, 1) / self.steps
        return learned


def prunable(found: Anatomy) -> list[Units]:
    """The batch norms of a network; of one without any, its layers with a bias but the last."""
    normalised = [units for units in found.units if units.normalised]
    return normalised or [units for units in found.units if _bias(units) is not None]


class Neural:
    """A network as a function of its neurons' scales and shifts.

    Each puts out scale * (output - centre) + shift * centre. The centre is the shift of its
    normalisation, as in the paper, else its mean over ``images``.
    """

    def __init__(self, net: nn.Module, units: Sequence[Units], images: ImageSet) -> None:
        self.net = net
        self.units = units
        bare = [one for one in units if one.output is one.layer and not one.normalised]
        found = dict(zip(bare, means(net, images, bare), strict=True)) if bare else {}
        self.centres: Neurons = [
            found[one] if one in found else one.output.get_parameter("bias").detach().clone()
            for one in units
        ]
        self._weights = [one.output.get_parameter("weight").detach().clone() for one in units]
        self._biases = [one.output.get_parameter("bias").detach().clone() for one in units]

    def perturbed(self, scales: Neurons, shifts: Neurons) -> dict[str, Tensor]:
        """The parameters that make it so, by name."""
        found = {}
        for at, units in enumerate(self.units):
            scale, centre, weight = scales[at], self.centres[at], self._weights[at]
            found[f"{units.at}.weight"] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            found[f"{units.at}.bias"] = scale * (self._biases[at] - centre) + shifts[at] * centre
        return found

    def loss(self, images: Tensor, labels: Tensor, scales: Neurons, shifts: Neurons) -> Tensor:
        """Cross-entropy of a batch, a scalar; batch norms go by the batch and keep their own."""
        state = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        norms = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.train()
        with autocast(images.device):
            changed = {**state, **self.perturbed(scales, shifts)}
            logits = functional_call(self.net, changed, (images,))
        for norm in norms:
            norm.eval()
        return nn.functional.cross_entropy(logits.float(), labels)


def _bias(units: Units) -> Tensor | None:
    """The last shift of the units: of their normalisation, else of their layer."""
    found = getattr(units.output, "bias", None)
    return found if isinstance(found, nn.Parameter) else None


def without(masks: Neurons, pruned: Tensor) -> Neurons:
    """One for every neuron, zero for those at ``pruned``: positions, counted through all layers."""
    alive = torch.ones(sum(len(mask) for mask in masks), device=pruned.device)
    alive[pruned] = 0
    return list(alive.split([len(mask) for mask in masks]))


def sums(one: Neurons, other: Neurons) -> Neurons:
    """Neuron by neuron."""
    return [a + b for a, b in zip(one, other, strict=True)]


def ones_like(like: Neurons) -> Neurons:
    """One for every neuron."""
    return [torch.ones_like(tensor) for tensor in like]
