"""Victims for whoever attacks or defends: from memory, from the store, or trained now."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import Attack
from bench.runtime import files
from bench.runtime.contracts import stamp
from bench.runtime.costs import Cost, cost
from bench.runtime.workspace import Workspace, usual
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.job import VictimJob, victim_job
from bench.victims import store
from bench.victims.poison import Poison, device_of
from bench.victims.train import build, fresh, make
from defenses import DefenderView
from fixtures.datasets import Dataset, budgeted
from fixtures.errors import BenchError
from fixtures.images import BATCH, ImageSet, gathered
from fixtures.seeding import seed_of
from fixtures.training import Progress

IN_MEMORY = 256 << 20
"""Bytes of images made for a victim that are kept in memory; more lie in a file beside it."""


@dataclass(frozen=True, eq=False)
class Victim:
    """The trained model of a cell, with the attack that made it and the data it was trained on.

    ``poison``: what was done to ``dataset.train``. ``training``: what the real training cost, also
    when it was loaded. ``trained``: whether this process trained it, rather than loaded it.
    ``path``: of its file in the cache.
    """

    cell: Cell
    dataset: Dataset
    model: nn.Module
    attack: Attack
    poison: Poison
    training: Cost
    trained: bool
    path: Path
    _made: dict[Any, ImageSet] = field(default_factory=dict, init=False, repr=False)

    @property
    def roles(self) -> Tensor:
        """What each sample of ``dataset.train`` became: int8 [N], `attacks.CLEAN` and the like."""
        return self.poison.roles

    @property
    def received(self) -> ImageSet:
        """The training set as it was handed over; its overlay tells what is not clean."""
        return self.poison.onto(self.dataset.train)

    @property
    def suspect(self) -> ImageSet:
        """The training set as a defender receives it: made once, one image after another."""
        return self._once("suspect", lambda path: self.received.flattened(path), self.received)

    @property
    def clean(self) -> ImageSet:
        """The defender's images, as many of each class as the data set's budget allows."""
        budget = defaults.clean(self.cell.dataset)
        pool = budgeted(self.dataset.clean, budget, seed_of("clean", self.cell.seed))
        return self._once("clean", lambda path: pool.flattened(path), pool)

    def triggered(self, which: int = 0) -> ImageSet:
        """All test images with a trigger, as they are handed over, under their true labels.

        Raises PluginError that names the attack.
        """
        test = self.dataset.test
        plugin, device = f"attack {self.cell.attack!r}", device_of(self.attack)

        def change(images: Tensor, _index: Tensor) -> Tensor:
            return stamp(plugin, self.attack, images.to(device), which)

        return self._once(f"triggered{which}", lambda path: changed(test, change, path), test)

    def view(self, seed: int, sees: Set[str]) -> DefenderView:
        """What a defender who sees those parts has of it.

        The model is a copy, since a defense may change it; images cannot be changed.
        """
        cell, shape, classes = self.cell, self.dataset.shape, len(self.dataset.classes)
        device = next(self.model.parameters()).device
        generator = torch.Generator().manual_seed(seed)

        def fresh_one() -> nn.Module:
            drawn = int(torch.randint(2**31 - 1, (), generator=generator))
            return fresh(cell, shape, classes, drawn).to(device)

        return DefenderView(
            model=copy.deepcopy(self.model) if "model" in sees else None,
            clean=self.clean if "clean" in sees else None,
            suspect=self.suspect if "suspect" in sees else None,
            shape=shape,
            num_classes=classes,
            device=device,
            generator=generator,
            fresh=fresh_one,
            recipe=defaults.recipe(cell, self.dataset),
        )

    def _once(self, name: str, make: Callable[[Path | None], ImageSet], like: ImageSet) -> ImageSet:
        """Images that are made at their first use and kept with the victim."""
        if name not in self._made:
            path = None if like.nbytes <= IN_MEMORY else self.path.with_suffix(f".{name}")
            try:
                self._made[name] = make(path)
            except OSError as error:
                raise BenchError(f"cannot write {path}: {error.strerror}") from error
        return self._made[name]


def changed(
    source: ImageSet, change: Callable[[Tensor, Tensor], Tensor], path: Path | None = None
) -> ImageSet:
    """What ``change`` makes of images, as they are handed over, under the same labels.

    ``change``: (images float32 [B, C, H, W], their positions int64 [B]) -> images. ``path``: the
    file that the pixels are kept in, else memory.
    """

    def parts() -> Iterator[Tensor]:
        for index, images in source.batches(BATCH):
            yield source.encoded(index, change(images, index))

    return ImageSet(gathered(parts(), len(source), source.shape, path), source.labels)


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
    dataset = dataset_of(cell, job.workspace)
    files.make_folder(job.path.parent)
    with files.locked(job.path):
        net, attack = build(cell, dataset)
        loaded = store.load(job, net, attack, len(dataset.train))
        if loaded is None:
            overlay = store.overlay_path(job.path)
            try:
                with cost() as training:
                    net, poison = make(cell, dataset, net, attack, device, overlay, progress)
                store.save(job, net, attack, poison, training)
            except BaseException as error:
                overlay.unlink(missing_ok=True)  # written before training: without it of no use
                if isinstance(error, OSError):
                    raise BenchError(f"cannot write {overlay}: {error.strerror}") from error
                raise
        else:
            training, poison = loaded
    # A file does not keep the order of weights in memory, and another one rounds otherwise.
    net.to(device).to(memory_format=torch.channels_last)
    attack.cpu().requires_grad_(False).eval()
    return Victim(
        cell=cell,
        dataset=dataset,
        model=net.eval(),
        attack=attack,
        poison=poison,
        training=training,
        trained=loaded is None,
        path=job.path,
    )
