"""What an attack makes of a training set: which samples it changes, and into what.

Everything in here shapes a victim, so this file's meaning is part of its identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks import CLEAN, Attack, Plan
from bench.runtime.contracts import (
    blamed,
    check_batch,
    check_images,
    check_labels,
    check_plan,
    check_roles,
    need,
)
from fixtures.images import BATCH, ImageSet, gathered
from fixtures.seeding import seeded


@dataclass(frozen=True, eq=False)
class Poison:
    """What an attack did to a training set of N, without the rest of it.

    ``roles``: int8 [N]. Of the P samples that are not clean, in their order: ``labels`` int64 [P],
    as the model is to learn them, and ``pixels`` uint8 [P, C, H, W]. All on the CPU.
    """

    roles: Tensor
    labels: Tensor
    pixels: Tensor

    @property
    def index(self) -> Tensor:
        """Positions of what is not clean: int64 [P]."""
        return (self.roles != CLEAN).nonzero().flatten()

    def onto(self, clean: ImageSet) -> ImageSet:
        """The training set with the poison over it; copies no pixel."""
        return clean.overlaid(self.index, self.pixels, self.labels)


def planned(plugin: str, attack: Attack, train: ImageSet, seed: int) -> Plan:
    """Which samples the attack takes, checked. Raises PluginError."""
    with blamed(plugin), seeded(seed):
        plan = attack.choose(train.labels.clone(), torch.Generator().manual_seed(seed))
    return check_plan(plugin, attack, train.labels, plan)


def stamped(
    plugin: str,
    attack: Attack,
    train: ImageSet,
    plan: Plan,
    seed: int,
    path: Path | None = None,
) -> Poison:
    """The poison of an attacker of the data: made before training, as files.

    ``path``: the file that its pixels are kept in, else memory. Raises PluginError, OSError.
    """
    index = (plan.roles != CLEAN).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    device = device_of(attack)

    def parts() -> Iterator[Tensor]:
        for at in index.split(BATCH):
            images = train.batch(at, device)
            given = images.clone()
            labels, roles = (part[at].to(device) for part in (plan.labels, plan.roles))
            with blamed(plugin), torch.no_grad():
                changed = attack.stamp(given, labels, roles, at.to(device), generator)
            need(isinstance(changed, Tensor), plugin, f"stamp returned {type(changed).__name__}")
            check_images(plugin, "stamp", changed, images)
            need(torch.equal(given, images), plugin, "stamp changed its input in place")
            yield train.encoded(at, changed)

    with seeded(seed):
        pixels = gathered(parts(), len(index), train.shape, path)
    return Poison(plan.roles, plan.labels[index], pixels)


def handed_over(
    plugin: str,
    attack: Attack,
    net: nn.Module,
    train: ImageSet,
    plan: Plan,
    seed: int,
    batch: int,
    path: Path,
) -> Poison:
    """The poison of an attacker of the loop: one last pass over the data, as training saw it.

    Batches of ``batch`` samples in an order drawn from ``seed``, without augmentation. Images that
    the attack makes up count by the role that it gives them. Raises PluginError, OSError.
    """
    generator = torch.Generator().manual_seed(seed)
    device = device_of(attack)
    order = torch.randperm(len(train), generator=generator)
    roles = torch.zeros(len(train), dtype=torch.int8)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with seeded(seed), torch.no_grad():
        for index in order.split(batch):
            images = train.batch(index, device)
            given = images.clone()
            wanted, given_roles = (part[index].to(device) for part in (plan.labels, plan.roles))
            with blamed(plugin):
                got = attack.on_batch(given, wanted, given_roles, index.to(device), net, generator)
            changed, labels, role = check_batch(plugin, images, got)
            check_images(plugin, "on_batch", changed, images)
            labels, role = labels.cpu(), role.cpu()
            check_labels(plugin, "on_batch", labels, len(index), attack.num_classes)
            check_roles(plugin, "on_batch", role, len(index))
            _check_clean(plugin, images, changed, train.labels[index], labels, role)
            kept = (role != CLEAN).nonzero().flatten()
            roles[index] = role
            pixels = train.encoded(index[kept], changed[kept.to(device)])
            found.append((index[kept], labels[kept], pixels))
    places = torch.cat([place for place, _, _ in found])
    sorted_places = places.argsort()
    labels = torch.cat([label for _, label, _ in found])[sorted_places]
    everything = torch.cat([pixels for _, _, pixels in found])
    parts = (everything[some] for some in sorted_places.split(BATCH))
    return Poison(roles, labels, gathered(parts, len(places), train.shape, path))


def _check_clean(
    plugin: str, before: Tensor, after: Tensor, true: Tensor, labels: Tensor, roles: Tensor
) -> None:
    """Raise PluginError where a sample changed that is called clean."""
    touched = (before != after).flatten(1).any(1).cpu() | (true != labels)
    count = int((touched & (roles == CLEAN)).sum())
    need(
        count == 0,
        plugin,
        f"on_batch changed {count} samples that it calls clean: poison and covers have a role",
    )


def device_of(attack: nn.Module) -> torch.device:
    """Where its parameters or buffers are; the CPU where it has none."""
    for tensor in (*attack.parameters(), *attack.buffers()):
        return tensor.device
    return torch.device("cpu")
