"""How a victim comes to be: model and attack built, a training set poisoned, the model trained.

Everything in here shapes a victim, so this file's meaning is part of its identity.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks import ATTACKS, Attack
from bench.runtime.contracts import blamed, check_poisoned, stamp
from bench.spec import defaults
from bench.spec.cell import Cell
from fixtures import models
from fixtures.datasets import Dataset, ImageSet
from fixtures.seeding import seed_of, seeded
from fixtures.training import Progress, fit


@dataclass(frozen=True, eq=False)
class Poison:
    """What an attack did to a training set, without the rest of it.

    ``mask``: bool [N]. ``labels`` int64 [N]: as received. ``images`` float32 [P, C, H, W]: the
    poisoned ones, in order. All on the CPU.
    """

    mask: Tensor
    labels: Tensor
    images: Tensor

    def onto(self, clean: ImageSet) -> ImageSet:
        """A copy of the clean training set with the poison in it."""
        images = clean.images.clone()
        images[self.mask] = self.images
        return ImageSet(images, self.labels.clone())


def build(cell: Cell, dataset: Dataset) -> tuple[nn.Module, Attack]:
    """The untrained model and the attack of a cell, from its seed. Raises PluginError."""
    with blamed(f"model {cell.model!r}"):
        seed = seed_of("model", cell.seed)
        net = models.build(cell.model, dataset, seed=seed, **dict(cell.model_params))
    attack = build_attack(cell, dataset)
    stamp(f"attack {cell.attack!r}", attack, dataset.train.images[:2])  # a broken one says so now
    return net, attack


def build_attack(cell: Cell, dataset: Dataset) -> Attack:
    """The attack of a cell before any training. Raises PluginError."""
    with blamed(f"attack {cell.attack!r}"), seeded(seed_of("trigger", cell.seed)):
        given = {"shape": dataset.shape, "num_classes": len(dataset.classes)}
        params = {**given, **defaults.arguments(cell.dataset, cell.attack, cell.attack_params)}
        return ATTACKS.create(cell.attack, **params)


def poisoned(cell: Cell, dataset: Dataset, attack: Attack) -> Poison:
    """The attack's poison for the training set, checked. Raises PluginError."""
    plugin = f"attack {cell.attack!r}"
    seed = seed_of("poison", cell.seed)
    with blamed(plugin), seeded(seed):
        got = attack.poison(dataset.train.clone(), torch.Generator().manual_seed(seed))
    got = check_poisoned(plugin, attack, dataset.train, got)
    return Poison(got.poisoned, got.labels, got.images[got.poisoned])


def train(
    cell: Cell,
    dataset: Dataset,
    net: nn.Module,
    attack: Attack,
    poison: Poison,
    device: torch.device,
    progress: Progress | None,
) -> None:
    """Train ``net`` on the poisoned set, on ``device``, a learned trigger with it.

    Both are changed in place. Raises TrainingError where the loss is no number, PluginError.
    """
    net.to(device)
    attack.to(device)
    mask = poison.mask.to(device)

    def on_batch(images: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        with blamed(f"attack {cell.attack!r}"):
            return attack.on_batch(images, labels, mask[index])

    def penalty() -> Tensor | float:
        with blamed(f"attack {cell.attack!r}"):
            return attack.penalty()

    # A learned trigger is stamped live, on clean images: its first draft is not part of the poison.
    data = (
        ImageSet(dataset.train.images, poison.labels)
        if attack.learned
        else poison.onto(dataset.train)
    )
    recipe = defaults.recipe(cell.dataset)
    recipe = dataclasses.replace(recipe, trigger_lr=attack.learning_rate or recipe.trigger_lr)
    seed = seed_of("training", cell.seed)
    with blamed(f"training {cell.id}"), seeded(seed):
        fit(
            net,
            data,
            recipe,
            generator=torch.Generator().manual_seed(seed),
            trigger=attack,
            on_batch=on_batch,
            penalty=penalty,
            progress=progress,
        )
