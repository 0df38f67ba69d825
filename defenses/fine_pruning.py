"""Prunes the channels that clean images activate least, then fine-tunes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from defenses.base import Repair, defense, lacks
from defenses.view import DefenderView
from fixtures.recipes import Recipe
from fixtures.training import channel_means, fit, last, predict


@defense("fine_pruning", source="Liu, Dolan-Gavitt, Garg 2018, arXiv:1805.12185")
class FinePruning(Repair):
    """Prune the channels that clean images use least, then fine-tune on the clean split.

    Question: can the backdoor's own channels be cut out? The last convolution's channels are
    ranked by mean activation on clean images and pruned from the least active on, while accuracy
    on a held-out part of the clean split stays within ``tolerance`` of what it was. What is left
    is fine-tuned on the whole clean split with pruned channels held at zero. Defaults
    chosen on ``digits``, the tolerance on MNIST's clean model and the pixel trigger.

    Deviates from the paper: one-cycle learning rate and random shifts of up to ``shift`` pixels,
    since the clean split is small. Assumes that the backdoor's channels are inactive on clean
    images: a backdoor that shares its channels with clean classes is left to the fine-tuning. Costs
    one small training run. Does not apply to a network without a convolution.
    """

    trajectory_label = "channels pruned"
    grid = MappingProxyType({"tolerance": (0.0, 0.02, 0.1), "peak_lr": (3e-3, 1e-2, 3e-2)})

    def __init__(
        self,
        tolerance: float = 0.02,
        held_out: float = 0.2,
        epochs: int = 20,
        min_steps: int = 200,
        peak_lr: float = 1e-2,
        shift: int = 2,
    ) -> None:
        self.tolerance = tolerance
        self.held_out = held_out
        self.recipe = Recipe(epochs=epochs, min_steps=min_steps, peak_lr=peak_lr, shift=shift)

    def supports(self, view: DefenderView) -> str | None:
        return lacks(view.model, nn.Conv2d)

    def repair(self, view: DefenderView) -> nn.Module:
        net = view.model
        self._received = copy.deepcopy(net)
        held_out, rest = view.held_out(self.held_out)

        layer = _last_convolution(net)
        self._order = channel_means(net, rest, layer, torch.relu).argsort(stable=True)
        conv = last(net, nn.Conv2d)
        curve: list[dict[str, float]] = []
        pruned = 0
        for count in range(self._order.numel()):
            with silenced(conv, self._order[:count]):
                predicted = predict(net, held_out).argmax(1)
            accuracy = float((predicted == held_out.labels).float().mean())
            curve.append({"pruned": count, "clean_accuracy": accuracy})
            if accuracy < curve[0]["clean_accuracy"] - self.tolerance:
                break
            pruned = count
        self.report["curve"] = curve
        self.report["channels"] = self._order.numel()
        self.report["pruned"] = pruned

        alive = torch.ones(self._order.numel(), device=conv.get_parameter("weight").device)
        alive[self._order[:pruned]] = 0
        masks = {
            name: alive.view(-1, *[1] * (p.ndim - 1)).expand_as(p)
            for name, p in conv.named_parameters()
        }
        for name, mask in masks.items():
            prune.custom_from_mask(conv, name, mask)
        fit(net, view.clean, self.recipe, generator=view.generator)
        for name in masks:
            prune.remove(conv, name)
        return net

    def trajectory(self) -> Iterable[tuple[int, nn.Module]]:
        """The received network with more and more channels pruned, before any fine-tuning."""
        channels = self._order.numel()
        for count in range(0, channels + 1, max(1, channels // 16)):
            net = copy.deepcopy(self._received)
            _prune(net, self._order[:count])
            yield count, net


@contextmanager
def silenced(conv: nn.Module, channels: Tensor) -> Iterator[None]:
    """Inside, these channels (positions) of what a convolution puts out are zero."""
    alive = torch.ones(conv.get_parameter("weight").shape[0], dtype=torch.bool)
    alive[channels] = False
    hook = conv.register_forward_hook(
        lambda _module, _inputs, output: output * alive.to(output.device)[:, None, None]
    )
    try:
        yield
    finally:
        hook.remove()


def _last_convolution(net: nn.Module) -> str:
    """Its dotted name. Raises LookupError for a network without a convolution."""
    conv = last(net, nn.Conv2d)
    names: dict[nn.Module, str] = {module: name for name, module in net.named_modules()}
    return names[conv]


@torch.no_grad()
def _prune(net: nn.Module, channels: Tensor) -> None:
    """Set these channels of the last convolution to zero, weights and biases, in place."""
    for parameter in last(net, nn.Conv2d).parameters():
        parameter[channels.to(parameter.device)] = 0.0
