"""Neural attention distillation: fine-tunes towards the attention maps of a fine-tuned copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from defenses.base import Repair, defense, lacks
from defenses.view import DefenderView
from fixtures.recipes import Recipe
from fixtures.training import autocast, fit


@defense("nad", source="Li et al. 2021, arXiv:2101.05930")
class NAD(Repair):
    """Fine-tune a teacher, then pull the network's attention maps towards the teacher's.

    Question: does the backdoor show in where a layer is active? A copy of the network is fine-tuned
    on the clean split and becomes the teacher. The network is then fine-tuned with a further term:
    the mean squared distance of its normalised attention maps (mean over channels of the squared
    activations after ReLU) from the teacher's, at every convolution, times ``beta``.

    Deviates from the paper: one ``beta`` for all layers, one-cycle learning rate, and random shifts
    of up to ``shift`` pixels as the only augmentation. Where ``epochs`` passes are fewer than
    ``min_steps``, passes repeat: on digits 100 steps of each network reach the accuracy on training
    images that 200 do, within 2 points. Assumes that fine-tuning already weakens the backdoor in
    the teacher. Costs two small training runs. Does not apply to a network without a
    convolution.
    """

    def __init__(
        self,
        beta: float = 1000.0,
        epochs: int = 8,
        min_steps: int = 100,
        peak_lr: float = 1e-2,
        shift: int = 2,
    ) -> None:
        self.beta = beta
        self.recipe = Recipe(epochs=epochs, min_steps=min_steps, peak_lr=peak_lr, shift=shift)

    def supports(self, view: DefenderView) -> str | None:
        return lacks(view.model, nn.Conv2d)

    def repair(self, view: DefenderView) -> nn.Module:
        student, teacher = view.model, copy.deepcopy(view.model)
        fit(teacher, view.clean, self.recipe, generator=view.generator)
        with attention(student) as seen, attention(teacher) as wanted:

            def distance(images: Tensor, _labels: Tensor, _logits: Tensor) -> Tensor:
                """Of the student's maps, which its pass has left, from the teacher's."""
                with torch.no_grad(), autocast(view.device):
                    teacher(images.contiguous(memory_format=torch.channels_last))
                apart = [(a - b).square().mean() for a, b in zip(seen, wanted, strict=True)]
                seen.clear()
                wanted.clear()
                return self.beta * torch.stack(apart).sum()

            fit(student, view.clean, self.recipe, generator=view.generator, penalty=distance)
        return student


@contextmanager
def attention(net: nn.Module) -> Iterator[list[Tensor]]:
    """A list that every forward pass extends by one attention map [N, H * W] per convolution."""
    maps: list[Tensor] = []
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if not layers:
        raise LookupError(f"{type(net).__name__} has no Conv2d layer")

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        energy = output.float().relu().square().mean(1).flatten(1)
        maps.append(nn.functional.normalize(energy, dim=1))

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
