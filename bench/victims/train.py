"""How a victim comes to be: model and attack built, a training set poisoned, the model trained.

Everything in here shapes a victim, so this file's meaning is part of its identity.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks import ATTACKS, Access, Attack, Plan
from bench.runtime.contracts import check_batch, stamp
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.victims.poison import Poison, as_files, handed_over, planned, stamped
from fixtures import models
from fixtures.blame import blamed, need
from fixtures.datasets import Dataset
from fixtures.images import ImageSet
from fixtures.recipes import Recipe
from fixtures.seeding import drawn_seed, seeded
from fixtures.training import Progress, fit

AUX_SHARE = 0.1
"""Of the training set: images that every attacker has."""

OF_TRAINING = ("on_batch", "penalty", "on_epoch")
"""Hooks that only an attacker of training has."""

OF_DATA = ("choose", "stamp")
"""Hooks that change the training set, which an attacker of the weights does not reach."""


def build(cell: Cell, dataset: Dataset) -> tuple[nn.Module, Attack]:
    """The untrained model and the attack of a cell, from its seed. Raises PluginError."""
    with blamed(f"model {cell.model!r}"):
        seed = dataset.seed_of("model", cell.seed)
        net = models.build(cell.model, dataset, seed=seed, **dict(cell.model_params))
    attack = build_attack(cell, dataset)
    some = dataset.train.batch(torch.arange(min(2, len(dataset.train))))
    for which in range(attack.triggers):
        stamp(f"attack {cell.attack!r}", attack, some, which)  # a broken one says so now
    return net, attack


def fresh(cell: Cell, shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """An untrained network of the cell's model, on the CPU."""
    return models.build_for(cell.model, shape, num_classes, seed=seed, **cell.architecture)


def build_attack(cell: Cell, dataset: Dataset) -> Attack:
    """The attack of a cell before any training. Raises PluginError."""
    plugin = f"attack {cell.attack!r}"
    given = {"shape": dataset.shape, "num_classes": len(dataset.classes)}
    params = {**given, **defaults.arguments(cell.dataset, cell.attack, cell.attack_params)}
    # Nothing else may draw in here: the first draw is the target, which every process must repeat.
    with blamed(plugin), seeded(dataset.seed_of("trigger", cell.seed)):
        attack = ATTACKS.create(cell.attack, **params)
    _check_power(plugin, attack, ATTACKS[cell.attack].info.needs)
    return attack


def _check_power(plugin: str, attack: Attack, needs: str) -> None:
    """Raise PluginError where the attack does more than the power that it declares."""
    if needs not in ("training", ""):
        own = [name for name in OF_TRAINING if _overrides(attack, name)]
        does = f"has {own[0]}" if own else "learns its trigger with the model"
        need(
            not (own or attack.learned),
            plugin,
            f'{does}, which needs = "training"; it declares needs = "{needs}"',
        )
    for name in OF_DATA if needs == "model" else ():
        need(
            not _overrides(attack, name),
            plugin,
            f'has {name}, which needs = "data"; it declares needs = "model"',
        )
    need(
        needs in ("training", "model") or not _overrides(attack, "tamper"),
        plugin,
        f'has tamper, which needs = "training" or "model"; it declares needs = "{needs}"',
    )


def _overrides(attack: Attack, name: str) -> bool:
    return getattr(type(attack), name) is not getattr(Attack, name)


def make(
    cell: Cell,
    dataset: Dataset,
    net: nn.Module,
    attack: Attack,
    device: torch.device,
    path: Path,
    progress: Progress | None,
) -> tuple[nn.Module, Poison]:
    """Train the victim on ``device``: the network as it is handed over, and the poison.

    ``net`` and ``attack`` are changed in place. ``path``: where the poison's pixels are kept.
    Raises TrainingError where the loss is no number, PluginError, OSError.
    """
    plugin = f"attack {cell.attack!r}"
    recipe = defaults.recipe(cell, dataset)
    net.to(device)
    attack.to(device)
    access = access_of(cell, dataset, recipe, device)
    seed = dataset.seed_of("attacker", cell.seed)
    state = {name: tensor.shape for name, tensor in attack.state_dict().items()}
    with blamed(plugin), seeded(seed):
        attack.prepare(access)
    _check_state(plugin, state, attack)

    train = dataset.train
    if ATTACKS[cell.attack].info.needs == "model":
        plan = Plan(torch.zeros(len(train), dtype=torch.int8), train.labels)
    else:
        plan = planned(plugin, attack, train, dataset.seed_of("poison", cell.seed))
    seed = dataset.seed_of("stamp", cell.seed)
    poison = None if attack.live else stamped(plugin, attack, train, plan, seed, path)
    data = train.labelled(plan.labels) if poison is None else poison.onto(train)
    _train(cell, dataset, data, recipe, net, attack, plan, progress)

    with blamed(plugin), seeded(dataset.seed_of("tamper", cell.seed)):
        handed = attack.tamper(net, access)
    need(isinstance(handed, nn.Module), plugin, f"tamper returned {type(handed).__name__}")
    shapes = [{n: t.shape for n, t in one.state_dict().items()} for one in (net, handed)]
    need(shapes[0] == shapes[1], plugin, "tamper returned a network of another architecture")
    attack.requires_grad_(False).eval()
    # The weights alone, as a stored victim has them: no hook that the attack left in the network.
    plain = fresh(
        cell, dataset.shape, len(dataset.classes), dataset.seed_of("model", cell.seed)
    ).to(device)
    plain.load_state_dict(handed.state_dict())
    plain.eval()
    if poison is None:
        batch = recipe.batch(len(train))
        seed = dataset.seed_of("handed over", cell.seed)
        poison = handed_over(plugin, attack, plain, train, plan, seed, batch, path)
    return plain, poison


def access_of(cell: Cell, dataset: Dataset, recipe: Recipe, device: torch.device) -> Access:
    """What the attacker of a cell has."""
    needs = ATTACKS[cell.attack].info.needs
    generator = torch.Generator().manual_seed(dataset.seed_of("access", cell.seed))
    train = dataset.train
    some = torch.randperm(len(train), generator=generator)[: max(1, int(AUX_SHARE * len(train)))]
    known = recipe if needs == "training" else None

    def fresh_one() -> nn.Module:
        seed = drawn_seed(generator)
        return fresh(cell, dataset.shape, len(dataset.classes), seed).to(device)

    def fit_one(net: nn.Module, data: ImageSet, **changes: Any) -> None:
        usual = dataclasses.replace(known or Recipe(), **changes)
        fit(net, data, usual, generator=generator)

    return Access(
        shape=dataset.shape,
        num_classes=len(dataset.classes),
        device=device,
        generator=generator,
        aux=train.take(some.sort().values),
        fresh=fresh_one,
        fit=fit_one,
        train=None if needs == "model" else train,
        recipe=known,
    )


def _check_state(plugin: str, before: dict[str, torch.Size], attack: Attack) -> None:
    after = {name: tensor.shape for name, tensor in attack.state_dict().items()}
    differing = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    need(
        not differing,
        plugin,
        f"prepare changed the shape of its state ({', '.join(differing[:3])}): buffers for what it "
        "learns belong in the constructor, and a surrogate in a variable of prepare",
    )


def _train(
    cell: Cell,
    dataset: Dataset,
    data: ImageSet,
    recipe: Recipe,
    net: nn.Module,
    attack: Attack,
    plan: Plan,
    progress: Progress | None,
) -> None:
    """Train ``net`` on what the attack hands in, a learned trigger with it."""
    plugin = f"attack {cell.attack!r}"
    recipe = dataclasses.replace(recipe, trigger_lr=attack.learning_rate or recipe.trigger_lr)
    seed = dataset.seed_of("training", cell.seed)
    drawn = torch.Generator().manual_seed(dataset.seed_of("batches", cell.seed))
    planned_roles = plan.roles.to(next(net.parameters()).device)
    roles = planned_roles[:0]

    def on_batch(images: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal roles
        roles = planned_roles[index]
        if attack.live:
            with blamed(plugin):
                got = attack.on_batch(images, labels, roles, index, net, drawn)
            images, labels, roles = check_batch(plugin, images, got)
            images = as_files(data, images, roles, index)
        return images, labels

    def penalty(images: Tensor, labels: Tensor, logits: Tensor) -> Tensor | float:
        with blamed(plugin):
            return attack.penalty(net, images, labels, roles, logits)

    def on_epoch(epoch: int, epochs: int) -> None:
        with blamed(plugin):
            attack.on_epoch(epoch, epochs, net)
        net.train()

    with blamed(f"training {cell.id}"), seeded(seed):
        fit(
            net,
            data,
            recipe,
            generator=torch.Generator().manual_seed(seed),
            on_batch=on_batch,
            penalty=penalty if _overrides(attack, "penalty") else None,
            on_epoch=on_epoch if _overrides(attack, "on_epoch") else None,
            learned=attack.trigger_parameters() if attack.learned else (),
            progress=progress,
        )
