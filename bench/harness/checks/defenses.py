"""What every defense must keep to: it runs on a view, returns what its kind does, and repeats."""

from __future__ import annotations

import copy
import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from attacks import Attack
from bench.harness.checks.common import DATASET, named
from bench.runtime.contracts import (
    blamed,
    check_model_verdict,
    check_repaired,
    check_sample_verdict,
    check_scores,
    check_threshold,
    need,
    unsupported,
)
from defenses import (
    DEFENSES,
    DefenderView,
    Defense,
    InputDetector,
    ModelDetector,
    Repair,
    SampleDetector,
)
from fixtures import datasets, models
from fixtures.datasets import Dataset, ImageSet
from fixtures.seeding import seeded
from fixtures.training import Recipe, fit, predict

SMALL = Recipe(min_steps=200)
"""How the small victim is trained, and what a defense retrains it by."""


def check_defense(plugin: str | type[Defense] | Defense, **params: Any) -> None:
    """Run a defense on a small backdoored model and check what it returns, twice over.

    ``params``: its arguments. One that does not support the small victim (a SimpleCNN on grey
    images) is told in a warning with its reason, and nothing else of it is checked.
    """
    name = named("defense", plugin)
    reason = _unsupported(name, plugin, params)
    if reason is not None:
        warnings.warn(f"{name} does not apply to the small victim: {reason}", stacklevel=2)
        return
    first, second = (_verdict(name, plugin, params, order=None) for _ in range(2))
    need(torch.equal(first, second), name, "gives different results for the same view")
    if isinstance(_build_defense(plugin, params), SampleDetector):
        order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))
        shuffled = _verdict(name, plugin, params, order=order)
        both, either = int((first[order] & shuffled).sum()), int((first[order] | shuffled).sum())
        need(
            either == 0 or both >= 0.9 * either,
            name,
            f"flags follow the samples' order: shuffled, only {both} of {either} flagged samples "
            "are the same",
        )


def _unsupported(name: str, plugin: Any, params: dict[str, Any]) -> str | None:
    """Why the defense does not apply to the small victim; None where it does.

    Checks that it is of one of the four kinds and that asking it draws nothing from the view.
    """
    view = _view(order=None)
    before = view.generator.get_state()
    with seeded(0):
        with blamed(name):
            defense = _build_defense(plugin, params)
        need(
            isinstance(defense, SampleDetector | ModelDetector | InputDetector | Repair),
            name,
            "is none of SampleDetector, ModelDetector, InputDetector, Repair",
        )
        reason = unsupported(name, defense, view)
    need(
        torch.equal(before, view.generator.get_state()),
        name,
        "supports draws from the view's generator: what runs after it would differ",
    )
    return reason


def _view(order: Tensor | None) -> DefenderView:
    """Copies of all that a defender has of the small victim; ``order`` [N] is of its suspects."""
    victim, data, suspect = _small_victim()
    return DefenderView(
        model=copy.deepcopy(victim),
        clean=data.clean.clone(),
        suspect=suspect.clone() if order is None else suspect.take(order),
        num_classes=len(data.classes),
        generator=torch.Generator().manual_seed(1),
        recipe=SMALL,
    )


def _verdict(name: str, plugin: Any, params: dict[str, Any], order: Tensor | None) -> Tensor:
    """What the defense makes of the small victim, as one tensor that can be compared."""
    view = _view(order)
    inputs = datasets.load(DATASET).test.images[:64].clone()
    with seeded(0):
        with blamed(name):
            defense = _build_defense(plugin, params)
        if isinstance(defense, SampleDetector):
            with blamed(name):
                raw = defense.detect(view)
            return check_sample_verdict(name, raw, view.suspect.size).flags
        if isinstance(defense, ModelDetector):
            with blamed(name):
                found = defense.inspect(view)
            verdict = check_model_verdict(name, found, view.num_classes, inputs[:1])
            return torch.as_tensor(verdict.anomaly)
        if isinstance(defense, InputDetector):
            with blamed(name):
                scores = defense.screen(view, inputs)
            check_threshold(name, defense.threshold)
            return check_scores(name, "screen", scores, len(inputs))
        assert isinstance(defense, Repair)  # `_unsupported` has checked that it is one of the four
        with blamed(name):
            net = defense.repair(view)
        return predict(check_repaired(name, net, inputs[:2], view.num_classes), inputs)


class _Square(Attack):
    """A trigger for the small victim; checks name no plugin."""

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        stamped[..., -4:, -4:] = 1.0
        return stamped


@lru_cache(maxsize=1)
def _small_victim() -> tuple[nn.Module, Dataset, ImageSet]:
    data = datasets.load(DATASET)
    few = data.train.take(torch.arange(600))
    attack = _Square(poison_rate=0.04, shape=data.shape)
    got = attack.poison(few, torch.Generator().manual_seed(0))
    suspect = ImageSet(got.images, got.labels)
    net = models.build("simplecnn", data, seed=0)
    fit(net, suspect, SMALL, generator=torch.Generator().manual_seed(0))
    return net, data, suspect


def _build_defense(plugin: str | type[Defense] | Defense, params: dict[str, Any]) -> Defense:
    if isinstance(plugin, Defense):
        return copy.deepcopy(plugin)
    factory = DEFENSES[plugin].factory if isinstance(plugin, str) else plugin
    return factory(**params)
