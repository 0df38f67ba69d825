"""What every attack must keep to: its trigger changes images, it repeats, it can be stored."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from attacks import ATTACKS, Attack
from bench.harness.checks import poisoning
from bench.harness.checks.common import DATASET, GRID, Sample, made_up, named
from bench.harness.checks.moved import need_moved
from bench.runtime.contracts import check_labels, stamp
from fixtures import datasets
from fixtures.blame import blamed, need
from fixtures.images import ImageSet
from fixtures.seeding import seeded

Plugin = str | type[Attack] | Attack
"""A registered name, a class, or an attack that is built: the last is checked on its own shape."""


def check_attack(plugin: Plugin, **params: Any) -> None:
    """Check an attack's trigger, its poisoning, its hooks and its storage. ``params``: its own.

    On real digits, and on made-up images in grey and colour, of three sizes, with few and many
    classes. Works on the CPU, in a second or two. Raises PluginError, one line.
    """
    for sample in _samples(plugin):
        _check_on(named("attack", plugin) + sample.where, plugin, sample, params)


def _samples(plugin: Plugin) -> list[Sample]:
    data = datasets.load(DATASET)
    digits = Sample(data.train, data.test, len(data.classes))
    others = [made_up(*one) for one in GRID]
    if not isinstance(plugin, Attack):
        return [digits, *others]
    own = (plugin.shape, plugin.num_classes)
    if own == (digits.train.shape, digits.num_classes):
        return [digits]
    return [made_up(*own)]


def _check_on(name: str, plugin: Plugin, sample: Sample, params: dict[str, Any]) -> None:
    attack = _build(name, plugin, sample, seed=0, params=params)
    need(isinstance(attack, Attack), name, "is not an Attack")
    need(
        isinstance(attack.triggers, int) and attack.triggers >= 1,
        name,
        f"triggers is {attack.triggers!r}, expected a number from 1 upwards",
    )
    access = poisoning.access(_needs(plugin), sample)
    with blamed(name), seeded(0):
        attack.prepare(access)
    attack.eval()
    _check_classes(name, attack)
    images = sample.test.images
    for given in (images, images if sample.where else _framed(images)):
        stamped = [_check_trigger(name, attack, given, which) for which in range(attack.triggers)]
        for which, other in enumerate(stamped[1:], start=1):
            need(
                not torch.equal(stamped[0], other),
                name,
                f"its triggers 0 and {which} stamp the same",
            )
    _check_storage(name, attack, _build(name, plugin, sample, seed=1, params=params), images[:16])
    if attack.learned:
        _check_learned(name, attack, images[:8])
    poisoning.check(name, attack, sample, access)


def _check_classes(name: str, attack: Attack) -> None:
    """Every trigger aims at classes that there are, and works on some that have another."""
    labels = torch.arange(attack.num_classes)
    for which in range(attack.triggers):
        with blamed(name):
            aims, works = attack.aim(labels, which), attack.applies(labels, which)
        check_labels(name, "aim", aims, attack.num_classes, attack.num_classes)
        need(
            isinstance(works, Tensor) and works.dtype == torch.bool and works.shape == labels.shape,
            name,
            f"applies must return bool [{attack.num_classes}] for as many labels",
        )
        if attack.backdoors:
            need(bool(works.any()), name, f"trigger {which} applies to no class")
        need(
            not bool((works & (aims == labels)).any()),
            name,
            f"trigger {which} applies to a class that it aims at: nothing could be measured there",
        )


def _check_trigger(name: str, attack: Attack, images: Tensor, which: int) -> Tensor:
    stamped = stamp(name, attack, images, which)
    need(
        torch.equal(stamped, stamp(name, attack, images, which)),
        name,
        "stamps differently when repeated",
    )
    alone = torch.cat([stamp(name, attack, image[None], which) for image in images[:4]])
    need(
        torch.allclose(alone, stamped[:4], atol=1e-5),
        name,
        "stamps an image differently when it is alone than when it is in a batch",
    )
    if attack.backdoors:
        need_moved(name, "the trigger", images, stamped)
    else:
        need(torch.equal(stamped, images), name, "makes no backdoor, yet its trigger moves pixels")
    return stamped


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
    return ImageSet(nn.functional.pad(small, frame), torch.zeros(len(images)).long()).images


def _check_storage(name: str, attack: Attack, fresh: Attack, images: Tensor) -> None:
    """``fresh``: the same attack, built from another seed."""
    shapes = [
        {key: list(tensor.shape) for key, tensor in one.state_dict().items()}
        for one in (fresh, attack)
    ]
    differing = [
        key for key in {**shapes[0], **shapes[1]} if len({str(s.get(key)) for s in shapes}) > 1
    ]
    need(
        not differing,
        name,
        f"has another state after prepare ({', '.join(differing[:3])}): "
        "a buffer for what it learns belongs in the constructor, in its final shape",
    )
    with blamed(name):
        fresh.load_state_dict(attack.state_dict())
    fresh.eval()
    for which in range(attack.triggers):
        need(
            torch.equal(stamp(name, attack, images, which), stamp(name, fresh, images, which)),
            name,
            "stamps differently after its state was stored and loaded: "
            "keep a pattern in a buffer or a Parameter",
        )


def _check_learned(name: str, attack: Attack, images: Tensor) -> None:
    attack = copy.deepcopy(attack).requires_grad_(True)
    weights = torch.linspace(0, 1, images.numel()).view_as(images)
    with blamed(name):
        for which in range(attack.triggers):
            stamped = attack(images) if attack.triggers == 1 else attack(images, which)
            (stamped * weights).sum().backward()
    need(
        any(p.grad is not None and bool(p.grad.any()) for p in attack.trigger_parameters()),
        name,
        "has parameters, but no gradient reaches them",
    )


def _needs(plugin: Plugin) -> str:
    """The attacker's power that it was registered with; all of it for one that was not."""
    if isinstance(plugin, str):
        return ATTACKS[plugin].info.needs
    kind = type(plugin) if isinstance(plugin, Attack) else plugin
    found = (ATTACKS[name] for name in ATTACKS.names())
    return next((one.info.needs for one in found if one.factory is kind), "training")


def _build(
    name: str, plugin: Plugin, sample: Sample, *, seed: int, params: dict[str, Any]
) -> Attack:
    if isinstance(plugin, Attack):
        return copy.deepcopy(plugin)
    factory = ATTACKS[plugin].factory if isinstance(plugin, str) else plugin
    with blamed(name), seeded(seed):
        return factory(shape=sample.train.shape, num_classes=sample.num_classes, **params)
