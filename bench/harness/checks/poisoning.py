"""What an attack makes of a training set and of a batch, and what it does with its access."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from attacks import CLEAN, COVER, POISON, Access, Attack, Plan
from bench.harness.checks.common import FEW, MODEL, Sample
from bench.harness.checks.moved import need_moved
from bench.runtime.contracts import (
    check_batch,
    check_images,
    check_labels,
    check_plan,
    check_roles,
    training_stamp,
)
from fixtures import models
from fixtures.blame import blamed, need
from fixtures.images import ImageSet
from fixtures.seeding import seeded
from fixtures.training import fit, predict

BATCH = 64


def access(needs: str, sample: Sample) -> Access:
    """What the attacker has, by power. Networks are trained for a few steps on a few images."""
    generator = torch.Generator().manual_seed(0)
    recipe = FEW if needs == "training" else None

    def fit_few(net: nn.Module, data: ImageSet, **changes: Any) -> None:
        steps = {"epochs": FEW.epochs, "min_steps": FEW.min_steps}
        few = data.take(torch.arange(min(len(data), 2 * BATCH)))
        fit(net, few, dataclasses.replace(FEW, **{**changes, **steps}), generator=generator)

    return Access(
        shape=sample.train.shape,
        num_classes=sample.num_classes,
        device=torch.device("cpu"),
        generator=generator,
        aux=sample.train.take(torch.arange(len(sample.train)) % 10 == 0),
        fresh=lambda: _network(sample),
        fit=fit_few,
        train=None if needs == "model" else sample.train,
        recipe=recipe,
    )


def _network(sample: Sample) -> nn.Module:
    return models.build_for(MODEL, sample.train.shape, sample.num_classes)


def check(name: str, attack: Attack, sample: Sample, given: Access) -> None:
    """Check the plan, the poison and covers, and every hook that the attack has."""
    labels = sample.train.labels
    plan, again, other = (_planned(name, attack, labels, seed) for seed in (0, 0, 1))
    need(torch.equal(plan.roles, again.roles), name, "choose ignores its generator")
    _check_aims(name, attack, labels, plan)
    if not sample.where and bool((plan.roles != CLEAN).any()):  # of few samples two draws may agree
        need(
            not torch.equal(plan.roles, other.roles),
            name,
            "choose takes the same samples whatever its generator",
        )
    if attack.live or _has(attack, "penalty") or _has(attack, "on_epoch"):
        _check_training(name, attack, sample, plan)
    if not attack.live:
        _check_stamps(name, attack, sample.train, plan)
    if attack.covers:
        covers = torch.full((len(sample.test),), COVER, dtype=torch.int8)
        _check_stamps(name, attack, sample.test, Plan(covers, sample.test.labels))
    if _has(attack, "tamper"):
        _check_tamper(name, attack, sample, given)


def _has(attack: Attack, hook: str) -> bool:
    return getattr(type(attack), hook) is not getattr(Attack, hook)


def _planned(name: str, attack: Attack, labels: Tensor, seed: int) -> Plan:
    asked = labels.clone()
    with blamed(name), seeded(seed):
        plan = attack.choose(asked, torch.Generator().manual_seed(seed))
    need(torch.equal(asked, labels), name, "choose changed its input in place")
    return check_plan(name, attack, labels, plan)


def _check_aims(name: str, attack: Attack, labels: Tensor, plan: Plan) -> None:
    poison = plan.roles == POISON
    aimed = torch.zeros_like(poison)
    for which in range(attack.triggers):
        aimed |= plan.labels == attack.aim(labels, which)
    need(
        not bool((poison & ~aimed).any()),
        name,
        "poison must carry the label that the attack aims at",
    )
    need(
        attack.backdoors or not bool((plan.roles != CLEAN).any()),
        name,
        "makes no backdoor, yet chooses samples",
    )


def _check_stamps(name: str, attack: Attack, data: ImageSet, plan: Plan) -> None:
    """What the training set carries, or test images stamped as covers."""
    index = (plan.roles != CLEAN).nonzero().flatten()
    if len(index) == 0:
        return
    images = data.batch(index)
    labels, roles, generator = plan.labels[index], plan.roles[index], torch.Generator()
    with seeded(0):
        stamped = training_stamp(
            name, attack, images, labels, roles, index, generator.manual_seed(0)
        )
    _check_changed(name, images, stamped, roles)


def _check_changed(name: str, before: Tensor, after: Tensor, roles: Tensor) -> None:
    for role, what in ((POISON, "the poison"), (COVER, "a cover")):
        picked = roles == role
        if bool(picked.any()):
            need_moved(name, what, before[picked], after[picked])


def _check_training(name: str, attack: Attack, sample: Sample, plan: Plan) -> None:
    """One batch after another through the hooks of an attacker of training, as the loop does."""
    attack, net = copy.deepcopy(attack), _network(sample)
    generator = torch.Generator().manual_seed(0)
    data = sample.train
    order = torch.randperm(len(data), generator=generator)[: 2 * BATCH]
    before, after, roles = [], [], []
    with blamed(name), seeded(0):
        attack.on_epoch(0, 1, net)
    for index in order.split(BATCH):
        images, role = data.batch(index), plan.roles[index]
        given = images.clone(), plan.labels[index], role.clone()
        if attack.live:
            with blamed(name), seeded(0):
                got = attack.on_batch(*given, index, net, generator)
            changed, labels, role = check_batch(name, images, got)
            _check_batch(
                name,
                sample.num_classes,
                data.labels[index],
                images,
                given[0],
                (changed, labels, role),
            )
        else:
            changed, labels = images, plan.labels[index]
        if _has(attack, "penalty"):
            with blamed(name), seeded(0):
                found = attack.penalty(net, changed, labels, role, net(changed))
            _check_penalty(name, found)
        before.append(images)
        after.append(changed.detach())
        roles.append(role)
    if attack.live:
        _check_changed(name, torch.cat(before), torch.cat(after), torch.cat(roles))


def _check_batch(
    name: str,
    num_classes: int,
    true: Tensor,
    images: Tensor,
    given: Tensor,
    got: tuple[Tensor, Tensor, Tensor],
) -> None:
    """``true``: the batch's own labels. ``given``: the copy of its images that the attack got."""
    changed, labels, roles = got
    need(torch.equal(given, images), name, "on_batch changed its input in place")
    check_images(name, "on_batch", changed.detach(), images)
    check_labels(name, "on_batch", labels, len(true), num_classes)
    check_roles(name, "on_batch", roles, len(true))
    touched = (changed.detach() != images).flatten(1).any(1) | (labels != true)
    count = int((touched & (roles == CLEAN)).sum())
    need(count == 0, name, f"on_batch changed {count} samples that it calls clean")
    mislabelled = int(((labels != true) & (roles == COVER)).sum())
    need(mislabelled == 0, name, f"on_batch gave {mislabelled} covers another label than theirs")


def _check_penalty(name: str, found: Any) -> None:
    with blamed(name):
        scalar = torch.as_tensor(found)
    need(
        scalar.numel() == 1 and bool(scalar.isfinite()),
        name,
        f"penalty returned {list(scalar.shape)}, expected one finite number",
    )


def _check_tamper(name: str, attack: Attack, sample: Sample, given: Access) -> None:
    net = _network(sample)
    with blamed(name), seeded(0):
        handed = attack.tamper(net, given)
    need(isinstance(handed, nn.Module), name, f"tamper returned {type(handed).__name__}")
    own, others = (
        {key: tensor.shape for key, tensor in one.state_dict().items()}
        for one in (_network(sample), handed)
    )
    need(own == others, name, "tamper returned a network of another architecture")
    with blamed(name):
        logits = predict(handed, sample.test.images[:2])
    need(bool(logits.isfinite().all()), name, "tamper's network returns NaN or infinity")
