"""Adversarial neuron pruning: removes the neurons whose perturbation does the most harm."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from defenses.base import Repair, defense
from defenses.view import DefenderView
from fixtures.images import ImageSet
from fixtures.training import autocast, channel_means, predict

Neurons = dict[str, Tensor]
"""Layer's dotted name -> one number for each of its neurons, float32 [C]."""

LEAST = 16
"""Images of a step where a tenth of the clean images is fewer than this."""


@defense("anp", source="Wu and Wang 2021, arXiv:2110.14430")
class ANP(Repair):
    """Prune the neurons that are most easily perturbed into misclassifying clean images.

    Question: which neurons does the backdoor need? Every neuron of every layer but the last gets a
    mask in [0, 1], learned on clean images to keep the loss low both as it is and when an adversary
    changes each neuron's scale and mean by up to ``eps`` of themselves: ``alpha`` of the one loss
    and the rest of the other. The adversary takes one signed gradient step from a random start, as
    in the paper. Neurons are then pruned in order of their mask, a ``part`` of all of them at a
    time, as far as accuracy on a held-out part of the clean split stays within ``tolerance``. The
    paper's public benchmark picks how far by the ASR on test data, which no defender has.

    Deviates from the paper: linear layers count too, ``steps`` are fewer, and neurons are ordered
    by the mean of their mask over all steps: many masks end at zero, and those that got there first
    have the smaller mean. A step takes ``batch`` images, but no more than a tenth of those that
    there are, so that two steps differ (16 where that is fewer): on digits, with 58 images,
    accuracy on training images after pruning is no lower than with 128 drawn from them. Fewer steps
    are not enough: at any time the order still differs from that of half the steps (rank
    correlation of .8 to .95). The
    paper perturbs the batch normalisation of its networks; here every layer with a bias is treated
    as if it had one, each neuron's output being its mean over clean images plus a deviation that is
    masked. Perturbing the weights alone would never activate a neuron whose output lies far below
    zero on clean images. Assumes that the backdoor has neurons of its own which an adversary finds
    without the trigger: all that its adversary changes is what clean images make of each neuron.
    Costs three forward and backward passes a step. Does not apply to a network in which no layer
    but the last has a bias.
    """

    def __init__(
        self,
        eps: float = 0.4,
        alpha: float = 0.2,
        steps: int = 150,
        batch: int = 128,
        lr: float = 0.2,
        part: float = 1 / 32,
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
        if not prunable(view.model):
            return f"{type(view.model).__name__} has no layer with a bias before its last one"
        return None

    def repair(self, view: DefenderView) -> nn.Module:
        net = view.model.eval()
        held_out, rest = view.held_out(self.held_out)
        means = means_of(net, rest)
        masks = self._masks(net, means, rest, view.generator)
        order = torch.cat(list(masks.values())).argsort(stable=True)

        self.report["pruned"] = 0
        original = copy.deepcopy(net)
        best, self.report["curve"] = original.state_dict(), []
        floor = accuracy_of(net, held_out) - self.tolerance
        stride = max(1, round(self.part * len(order)))
        for count in range(stride, len(order), stride):
            alive = without(masks, order[:count])
            changed = perturbed(original, means, alive, ones_like(alive))
            net.load_state_dict({**original.state_dict(), **changed})
            point = {"pruned": count, "clean_accuracy": accuracy_of(net, held_out)}
            self.report["curve"].append(point)
            if point["clean_accuracy"] < floor:
                break
            best = {**original.state_dict(), **changed}
            self.report["pruned"] = count
        net.load_state_dict(best)
        return net

    def images(self, given: int) -> int:
        """Clean images a step, of the number given."""
        return min(given, self.batch, max(LEAST, given // 10))

    def _masks(
        self, net: nn.Module, means: Neurons, data: ImageSet, generator: torch.Generator
    ) -> Neurons:
        """The mask of every neuron, in [0, 1], on average over the steps that learn it."""
        device = next(net.parameters()).device
        data = data.resident(device)
        masks = ones_like(means)
        for mask in masks.values():
            mask.requires_grad_(True)
        learned = {name: torch.zeros_like(mask) for name, mask in means.items()}
        optimizer = torch.optim.SGD(masks.values(), lr=self.lr, momentum=0.9)

        def loss(images: Tensor, labels: Tensor, scales: Neurons, shifts: Neurons) -> Tensor:
            with autocast(device):
                changed = perturbed(net, means, scales, shifts)
                logits = functional_call(net, changed, (images,))
            return nn.functional.cross_entropy(logits.float(), labels)

        def noise() -> Neurons:
            return {
                name: (torch.rand(mask.shape, generator=generator).to(device) * 2 - 1) * self.eps
                for name, mask in masks.items()
            }

        batch = self.images(len(data))
        self.report |= {"steps": self.steps, "images_a_step": batch}
        for _ in range(self.steps):
            index = torch.randint(len(data), (batch,), generator=generator)
            some = data.batch(index, device), data.labels[index].to(device)
            nudges = [noise(), noise()]
            flat = [nudge.requires_grad_(True) for part in nudges for nudge in part.values()]
            fixed = {name: mask.detach() for name, mask in masks.items()}
            hurt = loss(*some, sum_of(fixed, nudges[0]), sum_of(ones_like(masks), nudges[1]))
            for nudge, slope in zip(flat, torch.autograd.grad(hurt, flat), strict=True):
                nudge.requires_grad_(False)
                nudge.add_(self.eps * slope.sign()).clamp_(-self.eps, self.eps)
            calm = loss(*some, masks, ones_like(masks))
            robust = loss(*some, sum_of(masks, nudges[0]), sum_of(ones_like(masks), nudges[1]))
            optimizer.zero_grad(set_to_none=True)
            (self.alpha * calm + (1 - self.alpha) * robust).backward()
            optimizer.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    learned[name] += mask.clamp_(0, 1) / self.steps
        return learned


def accuracy_of(net: nn.Module, data: ImageSet) -> float:
    """The share of labelled images that the network gets right."""
    return float((predict(net, data).argmax(1) == data.labels).float().mean())


def means_of(net: nn.Module, images: ImageSet) -> Neurons:
    """What every neuron of every layer but the last puts out on average over ``images``."""
    device = next(net.parameters()).device
    return {name: channel_means(net, images, name).to(device) for name in prunable(net)}


def prunable(net: nn.Module) -> list[str]:
    """Dotted names of the convolutions and linear layers with a bias, all but the last layer."""
    layers = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    return [name for name in list(layers)[:-1] if layers[name].bias is not None]


def perturbed(
    net: nn.Module, means: Neurons, scales: Neurons, shifts: Neurons
) -> dict[str, Tensor]:
    """Parameters with which each neuron puts out scale * (output - mean) + shift * mean."""
    found = {}
    for name, scale in scales.items():
        weight = net.get_parameter(f"{name}.weight").detach()
        bias = net.get_parameter(f"{name}.bias").detach()
        found[f"{name}.weight"] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
        found[f"{name}.bias"] = scale * (bias - means[name]) + shifts[name] * means[name]
    return found


def without(masks: Neurons, pruned: Tensor) -> Neurons:
    """One for every neuron, zero for those at ``pruned``: positions, counted through all layers."""
    alive = torch.ones(sum(len(mask) for mask in masks.values()), device=pruned.device)
    alive[pruned] = 0
    parts = alive.split([len(mask) for mask in masks.values()])
    return dict(zip(masks, parts, strict=True))


def sum_of(one: Neurons, other: Neurons) -> Neurons:
    """Neuron by neuron."""
    return {name: one[name] + other[name] for name in one}


def ones_like(like: Neurons) -> Neurons:
    """One for every neuron."""
    return {name: torch.ones_like(tensor) for name, tensor in like.items()}
