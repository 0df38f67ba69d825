"""A defense that a network or data set rules out is not applicable, with its reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import Cell, run
from bench.checks import check_defense
from bench.victims import victim
from defenses import DEFENSES, Repair, defense
from fixtures.errors import NotApplicable, PluginError
from fixtures.images import ImageSet
from fixtures.models import MODELS, model


class Choosy(Repair):
    """Supports nothing."""

    reason: object = "it supports nothing"

    def supports(self, view):
        return self.reason

    def repair(self, view):
        raise AssertionError("it said that it supports nothing")


class Speechless(Choosy):
    reason = ""


class Talkative(Choosy):
    reason = ("no", "way")


class Gambler(Choosy):
    def supports(self, view):
        return None if view.seed() % 2 else "tails"


class Shapeless(nn.Module):
    """Weights of its own and no layer at all: nothing to prune, to hook or to draw anew."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape[1] * shape[2], num_classes))

    def forward(self, images):
        return images.flatten(1) @ self.weight


IMAGES = ImageSet(torch.zeros(200, 1, 12, 12), torch.zeros(200, dtype=torch.int64))


RULED_OUT = {
    "activation_clustering": "Shapeless does not end in a linear layer",
    "spectral_signatures": "Shapeless does not end in a linear layer",
    "spectral_signatures_epsilon": "Shapeless does not end in a linear layer",
    "fine_pruning": "Shapeless has no layer whose units can be silenced",
    "nad": "Shapeless has no maps or tokens on the way",
    "anp": "Shapeless has no layer with a bias before its last one",
    "filter_and_retrain": "Shapeless does not end in a linear layer",
    **dict.fromkeys(
        ("from_scratch", "decoupled", "nab"), "the network's architecture is not known"
    ),
}


@pytest.mark.parametrize("name", DEFENSES.names())
def test_a_network_without_the_layers_that_a_defense_needs_rules_it_out(name, view_of):
    view = view_of(Shapeless((1, 12, 12), 4), IMAGES, classes=4)
    assert DEFENSES.create(name).supports(view) == RULED_OUT.get(name)


@pytest.mark.parametrize("name", DEFENSES.names())
def test_every_defense_supports_the_model_that_comes_with_the_benchmark(name, view_of):
    def simplecnn():
        return MODELS.create("simplecnn", shape=(1, 12, 12), num_classes=4)

    view = view_of(simplecnn(), IMAGES, fresh=simplecnn, classes=4)
    assert DEFENSES.create(name).supports(view) is None


def test_an_architecture_that_is_not_known_rules_retraining_out(view_of):
    view = view_of(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), IMAGES)
    reason = DEFENSES.create("filter_and_retrain").supports(view)
    assert reason == "the network's architecture is not known: it cannot be trained anew"
    with pytest.raises(ValueError, match="the network's architecture is not known"):
        view.train(IMAGES)


def test_what_supports_nothing_is_never_run(workspace, judged):
    with pytest.raises(NotApplicable) as error:
        judged(Choosy, victim(Cell("tiny", attack="pixel"), workspace))
    assert str(error.value) == "it supports nothing"


def test_its_record_says_why_and_holds_no_metric(workspace):
    with DEFENSES.temporary():
        defense("choosy", source="this test")(Choosy)
        record = run(Cell("tiny", attack="pixel", defense="choosy"), workspace)
    assert record.not_applicable == "it supports nothing"
    assert record.metrics == {}


def test_a_built_in_defense_is_not_applicable_to_a_network_without_its_layers(workspace):
    with MODELS.temporary():
        model("shapeless")(Shapeless)
        record = run(Cell("tiny", "shapeless", "pixel", "fine_pruning"), workspace)
    assert record.not_applicable == "Shapeless has no layer whose units can be silenced"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Speechless, "supports returned '', expected None or a reason"),
        (Talkative, "supports returned ('no', 'way'), expected None or a reason"),
    ],
)
def test_a_reason_is_a_clause(workspace, judged, broken, message):
    with pytest.raises(PluginError) as error:
        judged(broken, victim(Cell("tiny", attack="pixel"), workspace))
    assert str(error.value) == f"defense 'stranger': {message}"


def test_the_check_of_a_defense_that_does_not_apply_says_so():
    message = r"^defense 'Choosy' does not apply to 4 of 4 small victims: it supports nothing$"
    with pytest.warns(UserWarning, match=message) as caught:
        check_defense(Choosy)
    assert len(caught) == 1


def test_whether_a_defense_applies_is_not_drawn_by_lot():
    with pytest.raises(PluginError, match="'Gambler': supports draws from the view's generator"):
        check_defense(Gambler)
