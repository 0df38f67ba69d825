"""Victims for whoever attacks or defends: from memory, from the store, or trained now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks import COVER, Attack
from bench.runtime import files
from bench.runtime.contracts import stamp, training_stamp
from bench.runtime.costs import Cost, cost
from bench.runtime.workspace import Workspace, usual
from bench.spec import defaults
from bench.spec.cell import Cell, Split
from bench.spec.data import dataset_of
from bench.spec.job import VictimJob, victim_job
from bench.victims import store
from bench.victims.poison import Poison, changed, device_of
from bench.victims.train import build, make
from defenses import DefenderView
from defenses.handed import Handed, Pixels, opened
from fixtures.datasets import Dataset, budgeted
from fixtures.datasets.splitting import LEAST
from fixtures.errors import DataError
from fixtures.images import ImageSet, mapped
from fixtures.seeding import seeded
from fixtures.shared import SharedFile
from fixtures.training import Progress

IN_MEMORY = 256 << 20
"""Bytes of images made for a victim that are kept in memory; more lie in a file beside it."""

SUSPECT = "suspect"
"""What the images that a defender receives as the training set are called."""


@dataclass(frozen=True, eq=False)
class Victim:
    """The trained model of a cell, with the attack that made it and the data it was trained on.

    ``poison``: what was done to ``dataset.train``. ``training``: what the real training cost, also
    when it was loaded. ``trained``: whether this process trained it, rather than loaded it.
    ``path``: of its file in the cache. ``split``: what ``dataset.test`` is, see `judged_on`.
    """

    cell: Cell
    dataset: Dataset
    model: nn.Module
    attack: Attack
    poison: Poison
    training: Cost
    trained: bool
    path: Path
    split: Split = "test"
    _made: dict[str, ImageSet] = field(default_factory=dict, repr=False)
    _shared: dict[str, SharedFile] = field(default_factory=dict, repr=False)

    def judged_on(self, split: Split) -> Victim:
        """The same victim with the images of that split as ``dataset.test``, for the referees.

        What is made of test images it has of its own; all else is shared. The same object for each
        call. Raises ValueError where ``dataset.test`` is another split already.
        """
        if split == self.split:
            return self
        if self.split != "test":
            raise ValueError(f"a victim judged on {self.split} has no {split} images")
        return self._on_validation

    @cached_property
    def _on_validation(self) -> Victim:
        data = dataclasses.replace(self.dataset, test=self.dataset.validation)
        return dataclasses.replace(self, dataset=data, split="validation")

    @property
    def roles(self) -> Tensor:
        """What each sample of ``dataset.train`` became: int8 [N], `attacks.CLEAN` and the like."""
        return self.poison.roles

    @cached_property
    def received(self) -> ImageSet:
        """The training set as it was handed over; its overlay tells what is not clean."""
        return self.poison.onto(self.dataset.train)

    @property
    def suspect(self) -> ImageSet:
        """The training set as a defender receives it: made once, one image after another."""
        return self._once(SUSPECT, self.received.flattened, self.received)

    def pool(self, budget: int | None) -> ImageSet:
        """The defender's images: ``budget`` of each class, or what there is; None for all.

        The larger of two budgets holds the images of the smaller.
        """
        return budgeted(self.dataset.clean, budget, self.dataset.seed_of("clean", self.cell.seed))

    def clean(self, budget: int | None) -> ImageSet:
        """`pool` as a defender receives it: made once, one image after another.

        Raises DataError where it is empty.
        """
        pool = self.pool(budget)
        if len(pool) == 0:
            raise DataError(
                f"data set {self.cell.dataset!r}: the defender has no clean image, since no class "
                f"has {LEAST} training images"
            )
        return self._once(_clean(budget), pool.flattened, pool)

    def triggered(self, which: int = 0) -> ImageSet:
        """All test images with a trigger, as they are handed over, under their true labels.

        Raises PluginError that names the attack.
        """
        test = self.dataset.test
        plugin, device = f"attack {self.cell.attack!r}", device_of(self.attack)

        def change(images: Tensor, _index: Tensor) -> Tensor:
            return stamp(plugin, self.attack, images.to(device), which)

        return self._once(
            self._of_split(f"triggered{which}"), lambda path: changed(test, change, path), test
        )

    def handed(self, seed: int, sees: Set[str], budget: int | None = None) -> Handed:
        """What a defender who sees those parts is handed of it; ``budget``: see `pool`.

        ``seed``: of all that the defender draws.
        """
        cell = self.cell
        return Handed(
            shape=self.dataset.shape,
            num_classes=len(self.dataset.classes),
            device=next(self.model.parameters()).device,
            seed=seed,
            model=cell.model,
            model_params=cell.architecture,
            recipe=defaults.recipe(cell, self.dataset),
            weights=self.model.state_dict() if "model" in sees else None,
            clean=self._pixels(_clean(budget), self.clean(budget)) if "clean" in sees else None,
            suspect=self._pixels(SUSPECT, self.suspect) if "suspect" in sees else None,
        )

    def view(self, seed: int, sees: Set[str], budget: int | None = None) -> DefenderView:
        """The view that a defender opens of it, in this process: for tests and timings."""
        return opened(self.handed(seed, sees, budget))

    def covered(self) -> ImageSet:
        """All test images changed as the attack's covers are, under their labels.

        In batches of images drawn from all classes, since a cover may be made of its neighbours.
        Raises PluginError that names the attack.
        """
        test, attack = self.dataset.test, self.attack
        plugin, device = f"attack {self.cell.attack!r}", device_of(attack)
        seed = self.dataset.seed_of("covers", self.cell.seed)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(test), generator=generator)

        def cover(images: Tensor, at: Tensor) -> Tensor:
            index = order[at]
            roles = torch.full((len(index),), COVER, dtype=torch.int8, device=device)
            given, labels = images.to(device), test.labels[index].to(device)
            return training_stamp(plugin, attack, given, labels, roles, index, generator)

        def make(path: Path) -> ImageSet:
            with seeded(seed):
                return changed(test.take(order), cover, path)

        name = self._of_split("covered")
        return self._once(name, make, test.take(order)).take(order.argsort())

    def _of_split(self, name: str) -> str:
        """What images that are made of ``dataset.test`` are called."""
        return name if self.split == "test" else f"{self.split}-{name}"

    def _once(self, name: str, make: Callable[[Path], ImageSet], like: ImageSet) -> ImageSet:
        """Images that are made at their first use, and kept with the victim in memory that can be
        shared with a defender's process.

        Large ones are kept in a file beside it, for every process: the victim's key stands for all
        that shapes them. ``like``: as many images of the same shape, under the same labels.
        """
        if name not in self._made:
            if like.nbytes <= IN_MEMORY:
                self._shared[name] = SharedFile()
                self._made[name] = make(self._shared[name].path)
                self._shared[name].seal()
            else:
                self._made[name] = self._in_file(name, make, like)
        return self._made[name]

    def _pixels(self, name: str, images: ImageSet) -> Pixels:
        """Images made under this name, as a file that can be handed over."""
        shared = self._shared.get(name)
        return Pixels(shared.path if shared else self._file(name), images.labels)

    def _file(self, name: str) -> Path:
        return self.path.with_suffix(f".{name}")

    def _in_file(self, name: str, make: Callable[[Path], ImageSet], like: ImageSet) -> ImageSet:
        path = self._file(name)
        with files.locked(self.path):
            if not path.exists() or path.stat().st_size != like.nbytes:
                with files.whole(path) as temporary:
                    make(temporary)
            return ImageSet(mapped(path, len(like), like.shape), like.labels)


def _clean(budget: int | None) -> str:
    """What the clean images of that many a class are called."""
    return f"clean{budget or ''}"


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
                with files.whole(overlay) as pixels, cost() as training:
                    net, poison = make(cell, dataset, net, attack, device, pixels, progress)
                store.save(job, net, attack, poison, training)
            except BaseException:
                overlay.unlink(missing_ok=True)  # of no use alone
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
