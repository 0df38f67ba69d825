"""Trainings with a proof, on data that is not trusted."""

from __future__ import annotations

import pytest
import torch

from bench import Cell
from bench.measure import run
from defenses import DEFENSES, Certificate, Certified, defense
from fixtures.errors import PluginError

FEW = {"poison_rate": 0.004}
"""Two poisoned samples of 520: four changes, which some votes outlast."""


def cell(name, attack="pixel", poison=FEW, **params):
    return Cell("tiny", attack=attack, attack_params=poison if attack != "none" else {},
                defense=name, defense_params=params)  # fmt: skip


PROVEN = ["dpa", "run_off_election", "finite_aggregation", "bagging"]
SIZES = {"finite_aggregation": {"partitions": 20, "spread": 3}, "bagging": {"voters": 200}}


@pytest.fixture(scope="module", params=PROVEN)
def proven(request, workspace):
    params = SIZES.get(request.param, {"partitions": 30})
    return run(cell(request.param, **params), workspace)


def test_it_is_right_on_most_and_certified_on_many(proven):
    found = proven.metrics
    assert found["clean_accuracy"] > 0.85
    assert 0.4 < found["certified_accuracy"] <= found["clean_accuracy"] + 0.1
    assert 0 < found["certified_at_poison"] <= found["certified_accuracy"]


def test_its_proof_was_held_against_the_attack_on_untouched_and_triggered_inputs(proven):
    certificate = proven.details["certificate"]
    modified = 2 if certificate["unit"] == "modification" else 4
    assert certificate["changes_of_the_attack"] == modified
    assert certificate["checked"] > 50
    assert certificate["broken"] == 0


def test_networks_may_vote_too(workspace):
    found = run(cell("dpa", partitions=8, base="network"), workspace)
    assert found.metrics["clean_accuracy"] > 0.7
    assert found.details["certificate"]["checked"] > 0


class Boastful(Certified):
    """Trains plainly and certifies a hundred changes of everything."""

    sees = frozenset({"suspect"})

    def train(self, view):
        net = view.train(view.suspect)
        return Boast(net)


class Boast(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images)

    def certify(self, images):
        labels = self.net(images).argmax(1)
        return Certificate(labels, torch.full_like(labels, 10_000), "insertion or deletion")


def test_a_proof_that_the_attack_refutes_fails_the_cell(workspace):
    with DEFENSES.temporary():
        defense("boastful", source="this test")(Boastful)
        with pytest.raises(PluginError, match=r"its proof does not hold: \d+ of \d+ inputs"):
            run(cell("boastful", poison={"poison_rate": 0.1}), workspace)


def test_more_parts_than_samples_are_not_applicable(workspace):
    found = run(cell("dpa", partitions=10_000), workspace)
    assert found.not_applicable == "10000 partitions are more than the 520 samples"


@pytest.mark.parametrize(
    ("name", "params", "line"),
    [
        ("dpa", {"partitions": 0}, "partitions is a number from 1, got 0"),
        ("dpa", {"base": "forest"}, "base is one of ridge, network, got 'forest'"),
        ("finite_aggregation", {"spread": 0}, "spread is a number from 1, got 0"),
        ("bagging", {"alpha": 0.0}, "alpha is a share between 0 and 1, got 0.0"),
        ("bagging", {"bag": 0}, "voters and bag are numbers from 1, got 500 and 0"),
    ],
)
def test_parameters_that_cannot_be_are_one_line(name, params, line, workspace):
    with pytest.raises(PluginError, match=line):
        run(cell(name, **params), workspace)
