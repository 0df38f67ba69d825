"""Trainings without a proof, on data that is not trusted."""

from __future__ import annotations

import pytest
import torch

from attacks import POISON
from bench import Cell
from bench.measure import run
from bench.victims import victim
from defenses import DEFENSES
from defenses.nab import Stamp
from defenses.votes.credibility import credibility, least
from fixtures.images import ImageSet

TRAININGS = ["decoupled", "nab"]


def patterns(each, classes=4):
    """Images of which each class has a bar of its own, so that any voter tells them apart."""
    labels = torch.arange(classes).repeat_interleave(each)
    images = 0.1 * torch.rand(len(labels), 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for image, label in zip(images, labels, strict=True):
        image[0, 3 * int(label) : 3 * int(label) + 2, 2:10] += 0.8
    return ImageSet(images, labels)


@pytest.fixture
def seen(view_of):
    def view(data):
        return view_of(torch.nn.Flatten(), data, classes=4)

    return view


def test_a_label_that_contradicts_its_picture_is_not_believed(seen):
    data = patterns(20)
    labels = data.labels.clone()
    labels[:3] = 2
    share, voted = credibility(seen(data.labelled(labels)))
    assert share[:3].max() == 0
    assert share[3:].min() > 0.5
    assert torch.equal(voted, data.labels)


def test_voters_are_no_more_than_are_needed_and_those_beyond_are_believed_alike(seen, monkeypatch):
    data = patterns(40)
    monkeypatch.setattr("defenses.votes.credibility.MOST", 5)
    share, voted = credibility(seen(data))
    assert set((20 * share).round().tolist()) <= {0, 4, 5, 8, 10, 12, 15, 16, 20}  # of 5, or of 4
    assert torch.equal(voted, data.labels)


def test_a_voter_says_nothing_of_what_it_learnt_from(seen):
    """Of three parts two vote on a sample, so a share is none, a half or all of them."""
    few = patterns(4)
    share, _ = credibility(seen(few))
    assert set(share.tolist()) <= {0.0, 0.5, 1.0}


def test_what_is_least_believed_is_taken_of_each_label():
    share = torch.tensor([0.9, 0.1, 0.8, 0.7, 0.3, 0.2, 0.25, 0.4])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert least(share, labels, 0.5).nonzero()[:, 0].tolist() == [1, 3, 5, 6]
    assert not least(share, labels, 0.0).any()


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("attack", ["pixel", "blended"])
def test_what_it_trains_is_right_and_has_no_backdoor(name, attack, workspace):
    found = run(Cell("tiny", attack=attack, defense=name), workspace).metrics
    assert found["asr_before"] > 0.9
    assert found["asr"] < 0.25
    assert found["clean_accuracy"] > 0.9


def test_poison_is_believed_less_than_nearly_anything_else(workspace):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    share, _ = credibility(attacked.view(0, {"suspect"}))
    poison = attacked.roles == POISON
    assert share[poison].median() < share[~poison].quantile(0.1)


@pytest.mark.parametrize("name", TRAININGS)
def test_an_architecture_that_is_not_known_rules_it_out(name, seen):
    reason = DEFENSES.create(name).supports(seen(patterns(4)))
    assert reason == "the network's architecture is not known"


@pytest.mark.parametrize(
    ("name", "params"),
    [("decoupled", {"kept": 1.0}), ("nab", {"suspected": 0.0}), ("nab", {"size": 1.5})],
)
def test_a_share_is_between_none_and_all(name, params):
    ((which, value),) = params.items()
    with pytest.raises(ValueError, match=f"{which} is a share between 0 and 1, got {value}"):
        DEFENSES.create(name, **params)


def test_every_input_carries_the_stamp_and_nothing_else_changes():
    images = torch.rand(3, 2, 20, 30)
    stamped = Stamp((2, 20, 30), 0.1)(images)
    assert torch.equal(stamped[..., 2:, :], images[..., 2:, :])
    assert torch.equal(stamped[..., :2, 2:], images[..., :2, 2:])
    assert stamped[0, 0, :2, :2].tolist() == [[1, 0], [0, 1]]
