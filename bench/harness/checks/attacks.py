"""What every attack must keep to: its trigger changes images, it repeats, it can be stored."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from attacks import ATTACKS, Attack, PoisonedSet
from bench.harness.checks.common import DATASET, named
from bench.judge.formulas import VISIBLE
from bench.runtime.contracts import blamed, check_poisoned, need, stamp
from fixtures import datasets
from fixtures.datasets import Dataset, ImageSet
from fixtures.seeding import seeded

MOVED_PIXELS = 0.001
MOVED_IMAGES = 0.95
"""A trigger must change this share of all pixels, and one pixel or more in this share of images."""


def check_attack(plugin: str | type[Attack] | Attack, **params: Any) -> None:
    """Check an attack's trigger, its poisoning and its storage. ``params``: its arguments."""
    data = datasets.load(DATASET)
    name = named("attack", plugin)
    with blamed(name):
        attack = _build_attack(plugin, data, seed=0, **params)
    need(isinstance(attack, Attack), name, "is not an Attack")
    attack.eval()
    for images in (data.test.images, _framed(data.test.images)):
        _check_trigger(name, attack, images)
    _check_poisoning(name, attack, data.train)
    _check_storage(name, attack, plugin, data, params)
    if attack.learned:
        _check_learned(name, attack, data.test.images[:8])


def _check_trigger(name: str, attack: Attack, images: Tensor) -> None:
    stamped = stamp(name, attack, images)
    need(
        torch.equal(stamped, stamp(name, attack, images)), name, "stamps differently when repeated"
    )
    alone = torch.cat([stamp(name, attack, image[None]) for image in images[:4]])
    need(
        torch.allclose(alone, stamped[:4], atol=1e-5),
        name,
        "stamps an image differently when it is alone than when it is in a batch",
    )
    if attack.poison_rate == 0:
        need(torch.equal(stamped, images), name, "poisons nothing, yet its trigger changes images")
        return
    _need_moved(name, "the trigger", images, stamped)


def _framed(images: Tensor) -> Tensor:
    """The same digits at five sevenths of their size in a black frame, as MNIST has them.

    A trigger that only ever meets the frame, like the seed study's blur of a black corner, moves
    pixels of a digit that fills its image, and none here.
    """
    height, width = images.shape[-2:]
    rows, columns = height * 5 // 7, width * 5 // 7
    small = nn.functional.interpolate(images, size=(rows, columns), mode="area")
    top, left = (height - rows) // 2, (width - columns) // 2
    frame = [left, width - columns - left, top, height - rows - top]
    return nn.functional.pad(small, frame)


def _need_moved(name: str, what: str, before: Tensor, after: Tensor) -> None:
    moved = (after - before).abs() > VISIBLE
    pixels, pictures = float(moved.float().mean()), float(moved.flatten(1).any(1).float().mean())
    need(
        pixels >= MOVED_PIXELS and pictures >= MOVED_IMAGES,
        name,
        f"{what} does next to nothing: it moves {pixels:.2%} of the pixels and touches "
        f"{pictures:.1%} of the images, at least {MOVED_PIXELS:.1%} and {MOVED_IMAGES:.0%} are "
        "required",
    )


def _check_poisoning(name: str, attack: Attack, train: ImageSet) -> None:
    first, again, other = (_poison(name, attack, train, seed) for seed in (0, 0, 1))
    need(torch.equal(first.poisoned, again.poisoned), name, "poison ignores its generator")
    if attack.poison_rate == 0:
        return
    need(
        not torch.equal(first.poisoned, other.poisoned),
        name,
        "poison chooses the same samples whatever its generator",
    )
    mask = first.poisoned
    need(
        torch.equal(first.labels[mask], attack.aim(train.labels[mask])),
        name,
        "poisoned samples must carry the label that the attack aims at",
    )
    _need_moved(name, "poison", train.images[mask], first.images[mask])


def _poison(name: str, attack: Attack, train: ImageSet, seed: int) -> PoisonedSet:
    with blamed(name), seeded(seed):
        given = train.clone()
        got = attack.poison(given, torch.Generator().manual_seed(seed))
    need(torch.equal(given.images, train.images), name, "poison changed its input in place")
    return check_poisoned(name, attack, train, got)


def _check_storage(
    name: str, attack: Attack, plugin: str | type[Attack] | Attack, data: Dataset, params: Any
) -> None:
    with blamed(name):
        fresh = _build_attack(plugin, data, seed=1, **params).eval()
        fresh.load_state_dict(attack.state_dict())
    images = data.test.images[:16]
    need(
        torch.equal(stamp(name, attack, images), stamp(name, fresh, images)),
        name,
        "stamps differently after its state was stored and loaded: "
        "keep a pattern in a buffer or a Parameter",
    )


def _check_learned(name: str, attack: Attack, images: Tensor) -> None:
    attack = copy.deepcopy(attack).requires_grad_(True)
    weights = torch.linspace(0, 1, images.numel()).view_as(images)
    with blamed(name):
        (attack(images) * weights).sum().backward()
    need(
        any(p.grad is not None and bool(p.grad.any()) for p in attack.parameters()),
        name,
        "has parameters, but no gradient reaches them",
    )


def _build_attack(
    plugin: str | type[Attack] | Attack, data: Dataset, *, seed: int, **params: Any
) -> Attack:
    if isinstance(plugin, Attack):
        return copy.deepcopy(plugin)
    factory = ATTACKS[plugin].factory if isinstance(plugin, str) else plugin
    with seeded(seed):
        return factory(shape=data.shape, num_classes=len(data.classes), **params)
