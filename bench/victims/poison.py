"""What an attack makes of a training set: which samples it changes, and into what.

Everything in here shapes a victim, so this file's meaning is part of its identity.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks import CLEAN, COVER, Attack, Plan
from bench.runtime.contracts import (
    check_batch,
    check_images,
    check_labels,
    check_plan,
    check_roles,
    training_stamp,
)
from fixtures.blame import blamed, need
from fixtures.images import BATCH, ImageSet, gathered, mapped, to_floats
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
            labels, roles = (part[at].to(device) for part in (plan.labels, plan.roles))
            stamped = training_stamp(plugin, attack, images, labels, roles, at, generator)
            yield train.encoded(at, stamped)

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
    roles = torch.zeros(len(train), dtype=torch.int8)
    places, labels = [], []
    # As they come, in a file: they may be a third of a set that does not fit in memory.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part") as arrived:
        with seeded(seed), torch.no_grad():
            for index in torch.randperm(len(train), generator=generator).split(batch):
                images = train.batch(index, device)
                given = images.clone()
                wanted, known = (part[index].to(device) for part in (plan.labels, plan.roles))
                with blamed(plugin):
                    got = attack.on_batch(given, wanted, known, index.to(device), net, generator)
                changed, label, role = check_batch(plugin, images, got)
                check_images(plugin, "on_batch", changed, images)
                label, role = label.cpu(), role.cpu()
                check_labels(plugin, "on_batch", label, len(index), attack.num_classes)
                check_roles(plugin, "on_batch", role, len(index))
                _check_right(plugin, images, changed, train.labels[index], label, role)
                kept = (role != CLEAN).nonzero().flatten()
                roles[index] = role
                pixels = train.encoded(index[kept], changed[kept.to(device)])
                arrived.write(pixels.numpy().tobytes())
                places.append(index[kept])
                labels.append(label[kept])
        arrived.flush()
        order = torch.cat(places).argsort()
        everything = mapped(Path(arrived.name), len(order), train.shape)
        parts = (everything[some] for some in order.split(BATCH))
        sorted_pixels = gathered(parts, len(order), train.shape, path)
    return Poison(roles, torch.cat(labels)[order], sorted_pixels)


def _check_right(
    plugin: str, before: Tensor, after: Tensor, true: Tensor, labels: Tensor, roles: Tensor
) -> None:
    """Raise PluginError where a sample changed that is called clean, or a cover its label."""
    touched = (before != after).flatten(1).any(1).cpu() | (true != labels)
    count = int((touched & (roles == CLEAN)).sum())
    need(
        count == 0,
        plugin,
        f"on_batch changed {count} samples that it calls clean: poison and covers have a role",
    )
    count = int(((true != labels) & (roles == COVER)).sum())
    need(
        count == 0,
        plugin,
        f"on_batch gave {count} covers another label: a cover keeps its own",
    )


def as_files(data: ImageSet, images: Tensor, roles: Tensor, index: Tensor) -> Tensor:
    """A batch of training in which what the attack changed is as it will be handed over: in bytes.

    Where the set's own images are JPEGs, images made during training would be the only ones without
    their traces: a network that is taught by such poison answers to pixels without traces, not to
    the trigger, and to no file. Gradients pass as if encoding changed nothing (the straight-through
    estimator, Bengio et al. 2013, arXiv:1308.3432). ``images`` float32 [B, C, H, W], after their
    augmentation; ``roles`` int8 [B]; ``index`` int64 [B], their positions in ``data``.
    """
    made = (roles != CLEAN).nonzero().flatten()
    if not len(made):
        return images
    some = images[made]
    files = to_floats(data.encoded(index[made].cpu(), some.detach())).to(some.device)
    return images.index_copy(0, made, some + (files - some).detach())


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


def device_of(attack: nn.Module) -> torch.device:
    """Where its parameters or buffers are; the CPU where it has none."""
    for tensor in (*attack.parameters(), *attack.buffers()):
        return tensor.device
    return torch.device("cpu")
