"""No defense can see the answer: change what only the judge may know, and nothing it says moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench import Cell
from bench.judge.defenses import judge_defense
from bench.victims.provide import victim
from defenses import DEFENSES, InputDetector
from fixtures.datasets import ImageSet


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("tiny", attack="pixel"), workspace)


SAID = {
    "detect": lambda out: torch.cat([out.scores, out.flags.double()]),
    "inspect": lambda out: torch.cat([out.anomaly, out.masks.flatten(), out.patterns.flatten()]),
    "repair": lambda out: torch.cat([p.flatten() for p in out.parameters()]).detach().clone(),
}
"""Method -> all that it says, as numbers. An input detector sees test images by its nature."""

SEES_NO_TEST = [n for n in DEFENSES.names() if not issubclass(DEFENSES[n].factory, InputDetector)]


@pytest.fixture
def spied(quick):
    """What a defense returned, caught before the judge compares it with the truth."""
    caught = []

    def spy(name):
        defense = DEFENSES.create(name, **quick(name))
        (method,) = (method for method in SAID if hasattr(defense, method))
        original = getattr(defense, method)

        def call(view):
            out = original(view)
            caught.append(SAID[method](out))
            return out

        setattr(defense, method, call)
        return defense

    return spy, caught


@pytest.mark.parametrize("name", SEES_NO_TEST)
def test_a_canary_in_the_test_set_moves_no_verdict(name, attacked, spied):
    spy, caught = spied
    canary = ImageSet(torch.rand_like(attacked.dataset.test.images), attacked.dataset.test.labels)
    poisoned = dataclasses.replace(
        attacked, dataset=dataclasses.replace(attacked.dataset, test=canary)
    )
    for one in (attacked, poisoned):
        judge_defense(Cell("tiny", attack="pixel", defense=name), one, spy(name))
    assert torch.equal(*caught)


@pytest.mark.parametrize("name", SEES_NO_TEST)
def test_a_canary_in_the_mask_moves_no_verdict(name, attacked, spied):
    spy, caught = spied
    cell = Cell("tiny", attack="pixel", defense=name)
    turned = dataclasses.replace(attacked, poisoned=attacked.poisoned.roll(1))
    for one in (attacked, turned):
        judge_defense(cell, one, spy(name))
    assert torch.equal(*caught)


def test_a_canary_in_the_mask_moves_the_score(workspace, spied):
    spy, _ = spied
    few = {"poison_rate": 0.03}  # so little that clustering finds it
    cell = Cell("digits", attack="pixel", defense="activation_clustering", attack_params=few)
    attacked = victim(cell, workspace)
    turned = dataclasses.replace(attacked, poisoned=attacked.poisoned.roll(1))
    honest, fooled = (judge_defense(cell, one, spy(cell.defense))[0] for one in (attacked, turned))
    assert honest["f1"] > 0.6
    assert fooled["f1"] < 0.5


def test_an_input_detector_sets_its_threshold_before_it_sees_an_input(attacked):
    """The same clean split and seed give the same threshold, whatever is screened afterwards."""
    thresholds = []
    for images in (attacked.dataset.test.images[:40], torch.rand(70, *attacked.dataset.shape)):
        detector = DEFENSES.create("strip", overlays=3)
        detector.screen(attacked.view(0), images)
        thresholds.append(detector.threshold)
    assert thresholds[0] == thresholds[1]


def test_a_defense_that_changes_its_view_harms_nobody(attacked):
    from defenses import Repair

    class Vandal(Repair):
        def repair(self, view):
            view.clean.images.fill_(0)
            view.suspect.images.fill_(0)
            with torch.no_grad():
                for parameter in view.model.parameters():
                    parameter.zero_()
            return view.model

    suspect = attacked.suspect.images.clone()
    weights = attacked.model.head.weight.clone()
    found, _, _ = judge_defense(Cell("tiny", attack="pixel"), attacked, Vandal())
    assert found["clean_accuracy"] < 0.3
    assert found["clean_accuracy_before"] > 0.9
    assert torch.equal(attacked.suspect.images, suspect)
    assert torch.equal(attacked.model.head.weight, weights)
    assert attacked.dataset.clean.images.any()


def test_the_view_holds_neither_trigger_nor_target_nor_mask_nor_test():
    from defenses import DefenderView

    assert [field.name for field in dataclasses.fields(DefenderView)] == [
        "model",
        "clean",
        "suspect",
        "num_classes",
        "generator",
        "recipe",
    ]


def test_the_defenders_randomness_is_not_the_attackers(attacked):
    """From a shared stream, a defender's own permutation would repeat the choice of poison."""
    from defenses import Repair

    seen = []

    class Peeks(Repair):
        def repair(self, view):
            order = torch.randperm(view.suspect.size, generator=view.generator)
            replayed = attacked.attack.poison(
                attacked.dataset.train, torch.Generator().manual_seed(view.generator.initial_seed())
            )
            seen.append((order[: int(attacked.poisoned.sum())], replayed.poisoned))
            return view.model

    judge_defense(Cell("tiny", attack="pixel"), attacked, Peeks())
    ((first, replayed),) = seen
    assert attacked.poisoned[first].float().mean() < 0.2
    assert (replayed & attacked.poisoned).sum() < 0.2 * attacked.poisoned.sum()
