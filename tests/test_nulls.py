"""Null baselines: they do nothing clever, and every claim of their kind must beat them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from bench.spec.cell import Cell, flavour_of
from bench.victims import victim
from defenses import DEFENSES
from fixtures.images import ImageSet
from fixtures.training import predict

NULLS = [name for name in DEFENSES.names() if DEFENSES[name].info.null]


def test_repairs_and_detectors_of_samples_and_inputs_have_nulls():
    assert {(name, flavour_of(name)) for name in NULLS} == {
        ("confidence", "inputs"),
        ("fine_tuning", "repair"),
        ("from_scratch", "repair"),
        ("largest_class", "samples"),
    }


@pytest.fixture
def counted(view_of):
    """Three classes of 2, 5 and 3 black images."""

    def make(labels=(0,) * 2 + (1,) * 5 + (2,) * 3):
        images = ImageSet(torch.zeros(len(labels), 1, 4, 4), torch.tensor(labels))
        return view_of(nn.Identity(), images, classes=4)

    return make


def test_the_largest_class_is_flagged_whole_and_scores_follow_the_sizes(counted):
    found = DEFENSES.create("largest_class").detect(counted())
    assert found.flags.tolist() == [False] * 2 + [True] * 5 + [False] * 3
    assert found.scores.tolist() == pytest.approx([0.2] * 2 + [0.5] * 5 + [0.3] * 3)


def test_counting_needs_neither_model_nor_clean_images():
    assert DEFENSES["largest_class"].factory.sees == {"suspect"}


class Bright(nn.Module):
    """The brighter an image, the surer it is of the second class; it has a weight to be found."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        level = self.gain * images.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(level), level], dim=1)


def test_confidence_refuses_what_the_model_is_surer_of_than_of_clean_images(view_of):
    levels = torch.linspace(0, 0.5, 101)[:, None, None, None].expand(-1, 1, 4, 4)
    clean = ImageSet(levels.contiguous(), torch.ones(101).long())
    detector = DEFENSES.create("confidence", fpr=0.1)
    detector.calibrate(view_of(Bright(), clean))
    images = torch.tensor([0.4, 0.9])[:, None, None, None].expand(-1, 1, 4, 4)
    scores = detector.screen(images)
    assert scores.tolist() == pytest.approx(torch.tensor([0.8, 1.8]).sigmoid().tolist(), abs=0.01)
    assert scores[0] <= detector.threshold < scores[1]
    of_clean = detector.screen(clean.images)
    assert float((of_clean > detector.threshold).double().mean()) == pytest.approx(0.1, abs=0.02)


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("tiny", attack="pixel"), workspace)


def trained(view):
    return DEFENSES.create("from_scratch", min_steps=20).repair(view)


def test_a_fresh_network_owes_the_victim_nothing(attacked):
    view = attacked.view(0, {"clean"})
    other = attacked.view(0, {"clean"})
    inputs = attacked.dataset.test
    assert torch.equal(predict(trained(view), inputs), predict(trained(other), inputs))
    fewer = attacked.view(0, {"clean"}, 1)
    assert not torch.equal(predict(trained(fewer), inputs), predict(trained(other), inputs))


def test_a_fresh_network_follows_the_victims_recipe_but_for_what_was_chosen(attacked, monkeypatch):
    seen = []
    monkeypatch.setattr("defenses.view.fit", lambda net, data, recipe, **_: seen.append(recipe))
    view = attacked.view(0, {"clean"})
    DEFENSES.create("from_scratch").repair(view)
    chosen = {"min_steps": 800, "shift": 2, "label_smoothing": 0.1}
    high = 2.5 * view.recipe.peak_lr
    assert seen == [dataclasses.replace(view.recipe, **chosen, peak_lr=high)]


def test_a_stranger_cannot_be_trained_anew(counted):
    reason = DEFENSES.create("from_scratch").supports(counted())
    assert reason == "the network's architecture is not known"
