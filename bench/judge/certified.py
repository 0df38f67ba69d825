"""Judges a training with a proof: as a training, and by what it certifies of the test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.judge import formulas
from bench.judge.common import Outcome, every_trigger
from bench.judge.defender import Defender
from bench.judge.training import trained
from bench.runtime.costs import cost
from bench.victims import Victim
from defenses import Certificate
from fixtures.blame import need
from fixtures.images import ImageSet
from fixtures.training import predict

CURVE = 64
"""Points at most of the curve of certified accuracy."""

AGREEMENT = 0.99
"""Of the images that it does not abstain from, the share at least that a network must itself call
what it certifies; rounding may turn a tie."""


def judge_certified(defender: Defender, victim: Victim, clean: Victim | None) -> Outcome:
    """The figures of a training, certified accuracy, the median certificate, and abstentions."""
    made, (found, costs, details) = trained(defender, victim, clean)
    test = victim.dataset.test
    with cost(defender) as costs["certify"]:
        certificate = certified(defender.plugin, defender.certify, made.net, test)
    attacked = changes(len(victim.poison.index), certificate)
    held = torch.where(certificate.labels == test.labels, certificate.radius, -1)
    found |= figures(held, attacked)
    found["abstained"] = formulas.share(certificate.radius < 0)
    details["certificate"] = {
        "unit": certificate.unit,
        "alpha": certificate.alpha,
        "changes_of_the_attack": attacked,
        "curve": curve(held),
    }
    if clean is not None:
        with cost() as costs["check"]:
            checked = check_proof(defender, certificate, made.net, victim, clean)
        details["certificate"] |= checked
    return found, costs, details


def check_proof(
    defender: Defender, certificate: Certificate, net: nn.Module, victim: Victim, clean: Victim
) -> dict[str, int]:
    """Hold the theorem against the attack: how many inputs it had to answer for, and failed.

    The defense is trained once more, on the training set as it was before the attack. Wherever
    that model's radius at an input, untouched or triggered, covers all that the attack changed,
    ``net``, which learnt from what the attack left, must answer alike. ``certificate``: what it
    says of the test images. Raises PluginError where it does not, of a proof that is certain: then
    the proof or its implementation is wrong. A proof that holds up to chance says something of all
    models that might have been drawn, and these are two: of it the failures are only told.
    """
    before = dataclasses.replace(
        defender.handed,
        suspect=clean.handed(0, {"suspect"}).suspect,
        weights=None if defender.handed.weights is None else clean.model.state_dict(),
    )
    triggered = [one.images for one in every_trigger(victim)]
    answers = [certificate.labels]
    answers += [certified(defender.plugin, defender.certify, net, one).labels for one in triggered]
    bound = broken = 0
    other = defender.again()  # ends the process that ``net`` answers from
    other.handed = before
    with other:
        twin = other.make("train")
        for images, answer in zip([victim.dataset.test, *triggered], answers, strict=True):
            told = certified(other.plugin, other.certify, twin.net, images)
            within = told.radius >= changes(len(victim.poison.index), told)
            bound += int(within.sum())
            broken += int((answer != told.labels)[within].sum())
    need(
        broken == 0 or certificate.alpha > 0,
        defender.plugin,
        f"its proof does not hold: {broken} of {bound} inputs that were certified against what the "
        "attack changed are answered otherwise after it",
    )
    return {"checked": bound, "broken": broken}


def changes(samples: int, certificate: Certificate) -> int:
    """How many changes it takes to modify so many samples, in the certificate's unit.

    A modified sample is one that was deleted and another that was inserted.
    """
    return samples if certificate.unit == "modification" else 2 * samples


def figures(held: Tensor, attacked: int) -> dict[str, float]:
    """From the radius within which each test image is certainly called right, -1 where none.

    ``attacked``: how many changes the attack made; 0 where there is none to hold against.
    """
    found = {"certified_accuracy": formulas.share(held >= 0)}
    if attacked:
        found["certified_at_poison"] = formulas.share(held >= attacked)
    median = int(held.sort(descending=True).values[(len(held) + 1) // 2 - 1])
    return found | ({"median_certificate": float(median)} if median >= 0 else {})


def curve(held: Tensor) -> list[dict[str, Any]]:
    """Certified accuracy by radius: where it falls, at no more than `CURVE` radii."""
    radii = held[held >= 0].unique()
    if len(radii) > CURVE:
        radii = radii[torch.linspace(0, len(radii) - 1, CURVE).round().long()]
    return [{"radius": int(r), "accuracy": formulas.share(held >= r)} for r in radii]


def certified(
    plugin: str, certify: Callable[[Tensor], Certificate], net: nn.Module, test: ImageSet
) -> Certificate:
    """What the network certifies of all test images, in one; labels and radius on the CPU.

    ``certify``: of a batch, checked. Raises PluginError where unit or alpha differ between batches,
    and where the network itself calls images otherwise than it certifies.
    """
    found = asked(plugin, certify, test)
    sure = found.radius >= 0
    agreed = int((predict(net, test).argmax(1) == found.labels)[sure].sum())
    need(
        agreed >= AGREEMENT * int(sure.sum()),
        plugin,
        f"its network says what it certifies for only {agreed} of {int(sure.sum())} images",
    )
    return found


def asked(plugin: str, certify: Callable[[Tensor], Certificate], test: ImageSet) -> Certificate:
    """What is certified of all images, asked in batches. Raises PluginError as `certified` does."""
    parts = [certify(images) for _, images in test.batches()]
    unit, alpha = parts[0].unit, parts[0].alpha
    need(
        all((part.unit, part.alpha) == (unit, alpha) for part in parts),
        plugin,
        "certify gives another unit or alpha for other images",
    )
    labels = torch.cat([part.labels for part in parts])
    radius = torch.cat([part.radius for part in parts])
    return Certificate(labels, radius, unit, alpha)
