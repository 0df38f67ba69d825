"""Neural attention distillation: fine-tunes towards the attention maps of a fine-tuned copy."""

from __future__ import annotations

import copy
from types import MappingProxyType

import torch
from torch import Tensor, nn

from defenses.base import Repair, defense
from defenses.view import DefenderView
from fixtures.anatomy import Place, watched
from fixtures.recipes import changes
from fixtures.training import autocast


@defense("nad", source="Li et al. 2021, arXiv:2101.05930")
class NAD(Repair):
    """Fine-tune a teacher, then pull the network's attention maps towards the teacher's.

    Question: does the backdoor show in where a stage is active? A copy of the network is fine-tuned
    on the clean split and becomes the teacher. The network is then fine-tuned with a further term:
    the mean squared distance of its normalised attention maps (mean over channels of the squared
    maps) from the teacher's, at the end of every stage, times ``beta``. Stages are those of
    `fixtures.anatomy`: maps of one size; of a transformer, whose tokens stay as many, each third
    of its blocks.

    Deviates from the paper: one ``beta`` for all stages; the victim's own recipe at ``lr_scale``
    times its peak learning rate, random shifts of up to ``shift`` pixels; a stage that ends in a
    bare convolution is compared behind its ReLU. Where ``epochs`` passes are fewer than
    ``min_steps``, passes repeat: on digits 100 steps of each network reach the accuracy on training
    images that 200 do, within 2 points. Assumes that fine-tuning already weakens the backdoor in
    the teacher. Costs two small training runs. Does not apply to a network without maps or tokens
    on the way.
    """

    grid = MappingProxyType({"beta": (100.0, 1000.0, 10_000.0), "lr_scale": (1.0, 2.5, 5.0)})

    def __init__(
        self,
        beta: float = 1000.0,
        epochs: int = 8,
        min_steps: int = 100,
        lr_scale: float = 2.5,
        shift: int = 2,
    ) -> None:
        self.beta = beta
        self.lr_scale = lr_scale
        self.changes = changes(epochs=epochs, min_steps=min_steps, shift=shift)

    def supports(self, view: DefenderView) -> str | None:
        return view.anatomy().lacks.get("stages")

    def repair(self, view: DefenderView) -> nn.Module:
        student, teacher = view.model, copy.deepcopy(view.model)
        of_student, of_teacher = view.anatomy().stages, view.anatomy(teacher).stages
        view.fine_tune(teacher, lr_scale=self.lr_scale, **self.changes)
        with watched(of_student) as seen, watched(of_teacher) as wanted:

            def distance(images: Tensor, _labels: Tensor, _logits: Tensor) -> Tensor:
                """Of the student's maps, which its pass has left, from the teacher's."""
                with torch.no_grad(), autocast(view.device):
                    teacher(images.contiguous(memory_format=torch.channels_last))
                apart = [
                    (attention(seen[place.name], place) - attention(wanted[place.name], place))
                    .square()
                    .mean()
                    for place in of_student
                ]
                return self.beta * torch.stack(apart).sum()

            view.fine_tune(student, lr_scale=self.lr_scale, penalty=distance, **self.changes)
        return student


def attention(stage: Tensor, place: Place) -> Tensor:
    """Where maps [N, C, H, W] or tokens [N, T, D] are active, at length one: [N, H * W] or [N, T].

    Behind the ReLU where the place is a bare layer.
    """
    stage = stage.float()
    if next(place.module.children(), None) is None:
        stage = stage.relu()
    energy = stage.square().mean(1).flatten(1) if place.form == "maps" else stage.square().mean(2)
    return nn.functional.normalize(energy, dim=1)
