"""The judges: what each kind of cell is measured by. Only these functions see the test set.

A judge hands a defense its view and nothing else, and compares what comes back with the truth.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from bench import metrics
from bench.cell import Cell
from bench.contracts import (
    blamed,
    check_model_verdict,
    check_repaired,
    check_sample_verdict,
    check_scores,
    check_threshold,
)
from bench.costs import Cost, cost
from bench.victims import Victim
from defenses import DefenderView, Defense, InputDetector, ModelDetector, Repair, SampleDetector
from fixtures.datasets import ImageSet
from fixtures.errors import PluginError
from fixtures.seeding import seed_of, seeded
from fixtures.training import activations, predict

PATH_IMAGES = 1000
"""Test images behind each point of a repair's path: a figure's precision, not a metric's."""

SCATTER_POINTS = 1200
GALLERY_IMAGES = 4

Outcome = tuple[dict[str, float], dict[str, Cost], dict[str, Any]]
"""metrics, costs by phase, details."""


def judge_attack(
    victim: Victim, clean_victim: Victim | None, other_victim: Victim | None
) -> Outcome:
    """Clean accuracy, ASR and RA, what the trigger does to other models, and its stealth.

    ``clean_victim``: the same model without poison. ``other_victim``: the same attack from another
    seed, where the trigger is learned.
    """
    test = victim.dataset.test
    aims = victim.attack.aim(test.labels)
    with cost() as measuring:
        triggered, received = _as_received(victim)
        found = dict(received)
        for name, other in (("asr_clean_model", clean_victim), ("asr_other_seed", other_victim)):
            if other is not None:
                predicted = _classes(other.model, triggered)
                found[name] = metrics.asr(predicted, test.labels, aims)
        found |= metrics.stealth(test.images, triggered)
    shown = (test.labels != aims).nonzero().flatten()[:GALLERY_IMAGES]
    details = {
        "gallery": {"clean": _pixels(test.images[shown]), "triggered": _pixels(triggered[shown])},
        "labels": [victim.dataset.classes[int(k)] for k in test.labels[shown]],
        **_poison_counts(victim),
    }
    return found, {"measure": measuring}, details


def judge_defense(cell: Cell, victim: Victim, defense: Defense) -> Outcome:
    """Run a defense on its view of the victim, and measure what it says or makes."""
    plugin = f"defense {cell.defense!r}"
    seed = seed_of("defense", cell.seed)
    view = victim.view(seed)
    judge = _judge(plugin, defense)
    with seeded(seed):
        found, costs, details = judge(plugin, defense, view, victim)
    with blamed(f"{plugin}, its report"):
        json.dumps(defense.report, allow_nan=False)
    return found, costs, {"report": defense.report, **_poison_counts(victim), **details}


def _poison_counts(victim: Victim) -> dict[str, int]:
    """How much of the training set, and of the target's class as it was received, is poison."""
    return {
        "poisoned_samples": int(victim.poisoned.sum()),
        "training_samples": victim.poisoned.numel(),
        "target": victim.attack.target,
        "target_samples": int((victim.poison.labels == victim.attack.target).sum()),
    }


def _judge(plugin: str, defense: Defense) -> Callable[[str, Any, DefenderView, Victim], Outcome]:
    if isinstance(defense, SampleDetector):
        return _judge_samples
    if isinstance(defense, ModelDetector):
        return _judge_model
    if isinstance(defense, InputDetector):
        return _judge_inputs
    if isinstance(defense, Repair):
        return _judge_repair
    raise PluginError(f"{plugin}: {type(defense).__name__} is none of the four kinds")


def _judge_samples(
    plugin: str, defense: SampleDetector, view: DefenderView, victim: Victim
) -> Outcome:
    with blamed(plugin), cost() as defending:
        raw = defense.detect(view)
    with cost() as measuring:
        verdict = check_sample_verdict(plugin, raw, victim.poisoned.numel())
        found = metrics.detection(verdict.scores, verdict.flags, victim.poisoned)
        labels = victim.poison.labels
        accused = set(labels[verdict.flags].tolist())
        guilty = set(labels[victim.poisoned].tolist())
        found["false_labels"] = float(len(accused - guilty))
        found |= _asr_before(victim)
        try:
            details = {"scatter": _scatter(victim, verdict.flags)}
        except LookupError:  # a model without a penultimate layer: a figure less, no figure wrong
            details = {}
    return found, {"defend": defending, "measure": measuring}, details


def _judge_model(
    plugin: str, defense: ModelDetector, view: DefenderView, victim: Victim
) -> Outcome:
    sample = view.clean.images[:1]
    with blamed(plugin), cost() as defending:
        raw = defense.inspect(view)
    verdict = check_model_verdict(plugin, raw, view.num_classes, sample)
    backdoored = bool(victim.poisoned.any())
    found = {"verdict_correct": float(bool(verdict.backdoored) == backdoored)}
    details: dict[str, Any] = {
        "anomaly": [float(value) for value in verdict.anomaly],
        "suspects": [int(label) for label in verdict.suspects],
    }
    costs = {"defend": defending}
    if not backdoored:
        found["fpr"] = float(bool(verdict.backdoored))
        return found, costs, details
    targets = set(victim.poison.labels[victim.poisoned].tolist())
    found["target_found"] = len(targets & set(details["suspects"])) / len(targets)
    found |= _asr_before(victim)
    if verdict.masks is not None and verdict.patterns is not None:
        with cost() as costs["measure"]:
            others = victim.others
            moved = (victim.triggered(others.images) - others.images).abs()
            often = (moved.amax(1) > metrics.VISIBLE).double().mean(0) >= 0.5
            mask = verdict.masks[victim.attack.target]
            if often.any() and len(targets) == 1:
                marked = (mask.amax(0) >= 0.5 * mask.max()) & (mask.amax(0) > 0)
                found["mask_iou"] = metrics.overlap(marked, often)
            details["recovered"] = {
                "true": _pixels(moved.mean(0, keepdim=True)),
                "mask": _pixels(mask[None]),
                "shown": _pixels((mask * verdict.patterns[victim.attack.target])[None]),
            }
    return found, costs, details


def _judge_inputs(
    plugin: str, defense: InputDetector, view: DefenderView, victim: Victim
) -> Outcome:
    clean = victim.dataset.test.images
    backdoored = bool(victim.poisoned.any())
    # On a clean model nothing is triggered: there is nothing to tell apart, only to refuse wrongly.
    triggered = victim.triggered(victim.others.images) if backdoored else clean[:0]
    inputs = torch.cat([clean, triggered])
    truth = torch.arange(len(inputs)) >= len(clean)
    # Mixed, so that a detector which looks at its whole batch learns nothing from the order.
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    truth = truth[order]
    with blamed(plugin), cost() as defending:
        raw = defense.screen(view, inputs[order])
    scores = check_scores(plugin, "screen", raw, len(inputs))
    found = metrics.screening(scores, truth) | _asr_before(victim) if backdoored else {}
    if (threshold := check_threshold(plugin, defense.threshold)) is not None:
        refused = scores > threshold
        found["fpr"] = metrics.share(refused[~truth])
        if backdoored:
            found["tpr"] = metrics.share(refused[truth])
    return found, {"defend": defending}, {}


def _judge_repair(plugin: str, defense: Repair, view: DefenderView, victim: Victim) -> Outcome:
    with blamed(plugin), cost() as defending:
        net = defense.repair(view)
    with cost() as measuring:
        test = victim.dataset.test
        aims = victim.attack.aim(test.labels)
        check_repaired(plugin, net, test.images[:2], view.num_classes)
        triggered, before = _as_received(victim)
        with blamed(plugin):
            found = _measure(net, test, triggered, aims)
        found |= {f"{name}_before": value for name, value in before.items()}
        found["der"] = metrics.der(
            before["clean_accuracy"], found["clean_accuracy"], before["asr"], found["asr"]
        )
        details = {}
        few = torch.randperm(test.size, generator=torch.Generator().manual_seed(0))[:PATH_IMAGES]
        with blamed(plugin):
            path = [
                {"at": int(at), **_measure(step, test.take(few), triggered[few], aims[few])}
                for at, step in defense.path()
            ]
    if path:
        details = {"path": path, "path_label": defense.path_label}
    return found, {"defend": defending, "measure": measuring}, details


def _asr_before(victim: Victim) -> dict[str, float]:
    """Whether there is a backdoor to be found; of a clean model nothing."""
    return {"asr_before": _as_received(victim)[1]["asr"]} if victim.poisoned.any() else {}


@lru_cache(maxsize=1)
def _as_received(victim: Victim) -> tuple[Tensor, dict[str, float]]:
    """The triggered test images, and the victim's own figures that every repair starts from."""
    test = victim.dataset.test
    triggered = victim.triggered(test.images)
    return triggered, _measure(victim.model, test, triggered, victim.attack.aim(test.labels))


def _measure(net: nn.Module, test: ImageSet, triggered: Tensor, aims: Tensor) -> dict[str, float]:
    predicted = _classes(net, triggered)
    return {
        "clean_accuracy": metrics.accuracy(_classes(net, test.images), test.labels),
        "asr": metrics.asr(predicted, test.labels, aims),
        "ra": metrics.robust_accuracy(predicted, test.labels, aims),
    }


def _classes(net: nn.Module, images: Tensor) -> Tensor:
    return predict(net, images).argmax(1)


def _scatter(victim: Victim, flags: Tensor) -> dict[str, Any]:
    """The target class's activations in two dimensions, with the truth and the verdict."""
    suspect = victim.suspect
    members = (suspect.labels == victim.attack.target).nonzero().flatten()
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(0))
    members = members[order[:SCATTER_POINTS]]
    points = PCA(2, random_state=0).fit_transform(
        activations(victim.model, suspect.images[members]).numpy()
    )
    scale = float(np.abs(points).max()) or 1.0
    return {
        "scale": scale,
        "int16": _packed(np.round(points / scale * 32767).astype("<i2")),
        "poisoned": _packed(np.packbits(victim.poisoned[members].numpy())),
        "flagged": _packed(np.packbits(flags[members].numpy())),
    }


def _pixels(images: Tensor) -> dict[str, Any]:
    data = (images * 255).round().to(torch.uint8)
    return {"shape": list(data.shape), "uint8": _packed(data.numpy())}


def _packed(numbers: NDArray[Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
