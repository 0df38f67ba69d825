"""What the referees share: the victim as it was received, poison counts, packing for figures."""

from __future__ import annotations

import base64
import math
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attacks import COVER, POISON
from bench.judge import formulas
from bench.runtime.costs import Cost
from bench.victims import Victim
from fixtures.images import ImageSet, to_bytes
from fixtures.training import predict

Outcome = tuple[dict[str, float], dict[str, Cost], dict[str, Any]]
"""metrics, costs by phase, details."""


class Aimed(NamedTuple):
    """Triggered test images and what the attacker wants of them.

    ``images``: N, of all classes. ``labels`` int64 [N]: their true classes; ``aims`` int64 [N]: the
    wanted ones; ``counts`` bool [N]: those that ASR is measured on, whose class the trigger applies
    to and is another than the wanted one.
    """

    images: ImageSet
    labels: Tensor
    aims: Tensor
    counts: Tensor


def poison_counts(victim: Victim) -> dict[str, int]:
    """How much of the training set, and of the target's class as it was received, is poison.

    ``triggered``: how many test images ASR is measured on, under any of the attack's triggers.
    """
    labels = victim.received.labels
    return {
        "poisoned_samples": int((victim.roles == POISON).sum()),
        "covers": int((victim.roles == COVER).sum()),
        "training_samples": len(victim.roles),
        "target": victim.attack.target,
        "target_samples": int((labels == victim.attack.target).sum()),
        "triggered": _triggered(victim),
    }


def _triggered(victim: Victim) -> int:
    labels, attack = victim.dataset.test.labels, victim.attack
    counts = [
        formulas.counted(labels, attack.aim(labels, which), attack.applies(labels, which))
        for which in range(attack.triggers)
    ]
    return int(torch.stack(counts).any(0).sum())


def split_counts(victim: Victim, budget: int | None) -> dict[str, int]:
    """Images of each split, and those of a later split that an earlier one holds too.

    ``values``: numbers that make an image. ``budget``: the defender's clean images of each class,
    None for all.
    """
    data = victim.dataset
    return {
        "train": len(data.train),
        "clean": len(victim.pool(budget)),
        "validation": len(data.validation),
        "test": len(data.test),
        "duplicates": sum(data.duplicates.values()),
        "values": math.prod(data.shape),
    }


def aimed(victim: Victim, which: int = 0) -> Aimed:
    """The test images with one of the attack's triggers."""
    labels, attack = victim.dataset.test.labels, victim.attack
    aims = attack.aim(labels, which)
    counts = formulas.counted(labels, aims, attack.applies(labels, which))
    return Aimed(victim.triggered(which), labels, aims, counts)


def every_trigger(victim: Victim) -> list[Aimed]:
    """One for each of the attack's triggers."""
    return [aimed(victim, which) for which in range(victim.attack.triggers)]


def classes_of(net: nn.Module, images: ImageSet) -> Tensor:
    """The class that a network gives each image: int64 [N]."""
    return predict(net, images).argmax(1)


def pixels(images: Tensor) -> dict[str, Any]:
    """Images [N, C, H, W], float in [0, 1] or uint8, as JSON."""
    data = images if images.dtype == torch.uint8 else to_bytes(images)
    return {"shape": list(data.shape), "uint8": packed(data.numpy())}


def packed(numbers: NDArray[Any]) -> str:
    """An array's bytes as text."""
    return base64.b64encode(numbers.tobytes()).decode()
