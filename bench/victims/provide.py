"""Victims for whoever attacks or defends: from memory, from the store, or trained now."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks import Attack
from bench.runtime import files
from bench.runtime.contracts import need, stamp
from bench.runtime.costs import Cost, cost
from bench.runtime.workspace import Workspace, usual
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.spec.job import VictimJob, victim_job
from bench.victims import store
from bench.victims.train import Poison, build, poisoned, train
from defenses import DefenderView
from fixtures import datasets
from fixtures.datasets import Dataset, ImageSet
from fixtures.training import Progress


@dataclass(frozen=True, eq=False)
class Victim:
    """The trained model of a cell, with the attack that made it and the data it was trained on.

    ``poisoned``: bool [N] over ``dataset.train``. ``poison``: what was done to it. ``training``:
    what the real training cost, also when it was loaded. ``trained``: whether this process trained
    it, rather than loaded it.
    """

    cell: Cell
    dataset: Dataset
    model: nn.Module
    attack: Attack
    poisoned: Tensor
    poison: Poison
    training: Cost
    trained: bool

    @property
    def suspect(self) -> ImageSet:
        """The training set as a defender receives it, made anew: whoever asks may change it."""
        return self.poison.onto(self.dataset.train)

    def view(self, seed: int) -> DefenderView:
        """What a defender sees of it, all of it copies: a defense may change what it is given."""
        return DefenderView(
            model=copy.deepcopy(self.model),
            clean=self.dataset.clean.clone(),
            suspect=self.suspect,
            num_classes=len(self.dataset.classes),
            generator=torch.Generator().manual_seed(seed),
            recipe=defaults.recipe(self.cell.dataset),
        )

    @property
    def others(self) -> ImageSet:
        """The test images that the trigger should give another class than their own."""
        test = self.dataset.test
        return test.take((test.labels != self.attack.aim(test.labels)).nonzero().flatten())

    def triggered(self, images: Tensor) -> Tensor:
        """Stamped images, checked. Raises PluginError that names the attack."""
        return stamp(f"attack {self.cell.attack!r}", self.attack, images)


def victim(
    cell: Cell, workspace: Workspace | None = None, *, progress: Progress | None = None
) -> Victim:
    """Train the model that the cell attacks, or load it; the cell's defense plays no part.

    Raises BenchError, each one line. See `provide`.
    """
    return provide(victim_job(cell, workspace or usual()), progress=progress)


def provide(job: VictimJob, *, progress: Progress | None = None) -> Victim:
    """A victim from memory, from the store, or trained now and stored.

    Two processes that want the same victim wait for each other, and one trains it. A damaged file
    is named in a warning, set aside and trained anew. Raises BenchError, each one line.
    """
    found: Victim = job.workspace.recall(job.key, lambda: _obtain(job, progress))
    return found


def _obtain(job: VictimJob, progress: Progress | None) -> Victim:
    cell, device = job.cell, job.workspace.torch_device()
    dataset = datasets.load(cell.dataset, job.workspace.data)
    files.make_folder(job.path.parent)
    poison = None
    with files.locked(job.path):
        net, attack = build(cell, dataset)
        training = store.load(job, net, attack)
        if training is None:
            poison = poisoned(cell, dataset, attack)
            with cost() as training:
                train(cell, dataset, net, attack, poison, device, progress)
            store.save(job, net, attack, training)
    # A file does not keep the order of weights in memory, and another one rounds otherwise.
    net.to(device).to(memory_format=torch.channels_last)
    attack.cpu().requires_grad_(False).eval()
    received = poisoned(cell, dataset, attack)  # again: a learned trigger is final only now
    if poison is not None:
        need(
            torch.equal(received.mask, poison.mask) and torch.equal(received.labels, poison.labels),
            f"attack {cell.attack!r}",
            "poison chose other samples when it was called again with an equal generator",
        )
    return Victim(
        cell=cell,
        dataset=dataset,
        model=net.eval(),
        attack=attack,
        poisoned=received.mask,
        poison=received,
        training=training,
        trained=poison is not None,
    )
