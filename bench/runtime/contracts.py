"""Checks of what attacks return. A breach is a PluginError, one line that names the attack."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks import CLEAN, COVER, POISON, Attack, Plan
from fixtures.blame import blamed, need


@torch.no_grad()
def stamp(plugin: str, attack: Attack, images: Tensor, which: int = 0) -> Tensor:
    """What trigger ``which`` makes of images, checked: shape, dtype, range, input unchanged.

    ``images``: float32 [N, C, H, W] in [0, 1], on the attack's device. Raises PluginError.
    """
    given = images.clone()  # the attack gets a copy: if it writes into it, the data set is not hurt
    with blamed(plugin):
        stamped: Tensor = attack(given) if attack.triggers == 1 else attack(given, which)
    need(isinstance(stamped, Tensor), plugin, f"forward returned {type(stamped).__name__}")
    check_images(plugin, "forward", stamped, images)
    need(torch.equal(given, images), plugin, "forward changed its input in place")
    return stamped.detach()


@torch.no_grad()
def training_stamp(
    plugin: str,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    roles: Tensor,
    index: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """What ``attack.stamp`` makes of images, checked as `stamp` checks; see `Attack.stamp`."""
    given = images.clone()
    with blamed(plugin):
        stamped = attack.stamp(given, labels, roles, index.to(images.device), generator)
    need(isinstance(stamped, Tensor), plugin, f"stamp returned {type(stamped).__name__}")
    check_images(plugin, "stamp", stamped, images)
    need(torch.equal(given, images), plugin, "stamp changed its input in place")
    return stamped


def check_images(plugin: str, where: str, images: Tensor, like: Tensor) -> None:
    """Raise PluginError unless images have the shape and dtype of ``like``, finite, in [0, 1]."""
    need(
        images.shape == like.shape and images.dtype == like.dtype,
        plugin,
        f"{where} returned {images.dtype} {list(images.shape)}, "
        f"expected {like.dtype} {list(like.shape)}",
    )
    if images.numel() == 0:
        return
    need(bool(images.isfinite().all()), plugin, f"{where} returned NaN or infinite pixels")
    low, high = float(images.min()), float(images.max())
    need(
        low >= 0.0 and high <= 1.0,
        plugin,
        f"{where} returned pixels from {low:g} to {high:g}, outside [0, 1]",
    )


def check_plan(plugin: str, attack: Attack, labels: Tensor, plan: Plan) -> Plan:
    """What ``attack.choose`` returned for a training set with these labels, int64 [N], as it is.

    Raises PluginError unless there is a role for each sample, only poison changes its label, and
    an attack that poisons has some.
    """
    need(isinstance(plan, Plan), plugin, f"choose returned {type(plan).__name__}, expected a Plan")
    check_roles(plugin, "choose", plan.roles, len(labels))
    check_labels(plugin, "choose", plan.labels, len(labels), attack.num_classes)
    relabelled = (plan.labels != labels) & (plan.roles != POISON)
    need(
        not bool(relabelled.any()),
        plugin,
        f"choose changed the label of {int(relabelled.sum())} samples that are not poison",
    )
    wanted = attack.backdoors and round(attack.poison_rate * len(labels)) > 0
    need(
        not wanted or bool((plan.roles == POISON).any()),
        plugin,
        f"choose made no sample poison; poison_rate is {attack.poison_rate:g}",
    )
    return plan


def check_roles(plugin: str, where: str, roles: Tensor, count: int) -> None:
    """Raise PluginError unless there is one of the three roles for each of so many samples."""
    need(isinstance(roles, Tensor), plugin, f"{where}'s roles are {type(roles).__name__}")
    need(
        roles.dtype == torch.int8 and roles.shape == (count,),
        plugin,
        f"{where}'s roles are {roles.dtype} {list(roles.shape)}, expected torch.int8 [{count}]",
    )
    known = (roles >= CLEAN) & (roles <= COVER)
    need(
        bool(known.all()),
        plugin,
        f"{where} gave a role {roles[~known][:1].tolist()}, none of {CLEAN} (clean), "
        f"{POISON} (poison), {COVER} (cover)",
    )


def check_labels(plugin: str, where: str, labels: Tensor, count: int, num_classes: int) -> None:
    """Raise PluginError unless labels are int64 [count], each a class."""
    need(isinstance(labels, Tensor), plugin, f"{where}'s labels are {type(labels).__name__}")
    need(
        labels.dtype == torch.int64 and labels.shape == (count,),
        plugin,
        f"{where}'s labels are {labels.dtype} {list(labels.shape)}, expected torch.int64 [{count}]",
    )
    need(
        count == 0 or (int(labels.min()) >= 0 and int(labels.max()) < num_classes),
        plugin,
        f"{where} gave a label outside 0 to {num_classes - 1}",
    )


def check_batch(plugin: str, images: Tensor, got: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What ``on_batch`` returned for ``images`` [B, C, H, W]: images, labels, roles, as they are.

    Looks at types and shapes alone: it is asked at every training step.
    """
    need(
        isinstance(got, tuple) and len(got) == 3 and all(isinstance(part, Tensor) for part in got),
        plugin,
        "on_batch must return three tensors: images, labels, roles",
    )
    changed, labels, roles = got
    need(
        changed.shape == images.shape and changed.dtype == images.dtype,
        plugin,
        f"on_batch returned images {changed.dtype} {list(changed.shape)}, "
        f"expected {images.dtype} {list(images.shape)}",
    )
    for name, part, dtype in (("labels", labels, torch.int64), ("roles", roles, torch.int8)):
        need(
            part.shape == images.shape[:1] and part.dtype == dtype,
            plugin,
            f"on_batch returned {name} {part.dtype} {list(part.shape)}, "
            f"expected {dtype} [{len(images)}]",
        )
    return changed, labels, roles
