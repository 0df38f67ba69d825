"""What the referees share: the victim as it was received, poison counts, packing for figures."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.judge import formulas
from bench.runtime.costs import Cost
from bench.victims import Victim
from fixtures.datasets import ImageSet
from fixtures.training import predict

Outcome = tuple[dict[str, float], dict[str, Cost], dict[str, Any]]
"""metrics, costs by phase, details."""


def poison_counts(victim: Victim) -> dict[str, int]:
    """How much of the training set, and of the target's class as it was received, is poison."""
    return {
        "poisoned_samples": int(victim.poisoned.sum()),
        "training_samples": victim.poisoned.numel(),
        "target": victim.attack.target,
        "target_samples": int((victim.poison.labels == victim.attack.target).sum()),
    }


def asr_before(victim: Victim) -> dict[str, float]:
    """Whether there is a backdoor to be found; of a clean model nothing."""
    return {"asr_before": as_received(victim)[1]["asr"]} if victim.poisoned.any() else {}


@lru_cache(maxsize=1)
def as_received(victim: Victim) -> tuple[Tensor, dict[str, float]]:
    """The triggered test images, and the victim's own figures that every repair starts from."""
    test = victim.dataset.test
    triggered = victim.triggered(test.images)
    return triggered, measure(victim.model, test, triggered, victim.attack.aim(test.labels))


def measure(net: nn.Module, test: ImageSet, triggered: Tensor, aims: Tensor) -> dict[str, float]:
    predicted = classes_of(net, triggered)
    return {
        "clean_accuracy": formulas.accuracy(classes_of(net, test.images), test.labels),
        "asr": formulas.asr(predicted, test.labels, aims),
        "ra": formulas.robust_accuracy(predicted, test.labels, aims),
    }


def classes_of(net: nn.Module, images: Tensor) -> Tensor:
    return predict(net, images).argmax(1)


def pixels(images: Tensor) -> dict[str, Any]:
    data = (images * 255).round().to(torch.uint8)
    return {"shape": list(data.shape), "uint8": packed(data.numpy())}


def packed(numbers: NDArray[Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
