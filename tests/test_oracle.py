"""No defense can see the answer: change what only the judge may know, and nothing it says moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench import Cell
from bench.cell import kind_of
from bench.judging import judge_defense
from bench.victims import victim
from defenses import DEFENSES
from fixtures.datasets import ImageSet


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("digits", attack="pixel"), workspace)


@pytest.fixture
def spied(monkeypatch):
    """What a defense returned, caught before the judge compares it with the truth."""
    caught = []

    def spy(name):
        defense = DEFENSES.create(name)
        method = "repair" if kind_of(name) == "repair" else "detect"
        original = getattr(defense, method)

        def call(view):
            out = original(view)
            if method == "repair":
                caught.append(torch.cat([p.flatten() for p in out.parameters()]).detach().clone())
            else:
                caught.append(torch.cat([out.scores, out.flags.double()]))
            return out

        setattr(defense, method, call)
        return defense

    return spy, caught


@pytest.mark.parametrize("name", DEFENSES.names())
def test_a_canary_in_the_test_set_moves_no_verdict(name, attacked, spied):
    spy, caught = spied
    canary = ImageSet(torch.rand_like(attacked.dataset.test.images), attacked.dataset.test.labels)
    poisoned = dataclasses.replace(
        attacked, dataset=dataclasses.replace(attacked.dataset, test=canary)
    )
    for one in (attacked, poisoned):
        judge_defense(Cell("digits", attack="pixel", defense=name), one, spy(name))
    assert torch.equal(*caught)


@pytest.mark.parametrize("name", DEFENSES.names())
def test_a_canary_in_the_mask_moves_no_verdict_but_moves_the_score(name, attacked, spied):
    spy, caught = spied
    cell = Cell("digits", attack="pixel", defense=name)
    turned = dataclasses.replace(attacked, poisoned=attacked.poisoned.roll(1))
    honest, fooled = (judge_defense(cell, one, spy(name))[0] for one in (attacked, turned))
    assert torch.equal(*caught)
    if kind_of(name) == "detection":
        assert honest["f1"] > 0.6
        assert fooled["f1"] < 0.5


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
    found, _, _ = judge_defense(Cell("digits", attack="pixel"), attacked, Vandal())
    assert found["clean_accuracy"] < 0.2
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

    judge_defense(Cell("digits", attack="pixel"), attacked, Peeks())
    ((first, replayed),) = seen
    assert attacked.poisoned[first].float().mean() < 0.2
    assert (replayed & attacked.poisoned).sum() < 0.2 * attacked.poisoned.sum()
