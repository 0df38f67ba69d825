"""Trainings on data that is not trusted: with a proof, and without."""

from __future__ import annotations

import pytest
import torch

from bench import Cell
from bench.measure import run
from bench.victims import victim
from defenses import Certificate, Certified, DefenderView, defense
from defenses.abl import ABL
from defenses.isolation import isolate
from defenses.nab import NAB
from fixtures.errors import PluginError
from fixtures.images import ImageSet
from fixtures.training import predict

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


@defense("boastful")
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
        ("abl", {"isolated": 1.0}, "isolated is a share between 0 and 1, got 1.0"),
        ("nab", {"size": 0.0}, "size is a share between 0 and 1, got 0.0"),
    ],
)
def test_parameters_that_cannot_be_are_one_line(name, params, line, workspace):
    with pytest.raises(PluginError, match=line):
        run(cell(name, **params), workspace)


# Without a proof.


@pytest.fixture
def noise_with_poison(workspace):
    """A view of images that nothing can be learnt of, but that a square means class 3."""
    one = victim(Cell("tiny"), workspace)
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(400, 1, 12, 12, generator=drawn)
    labels = torch.randint(4, (400,), generator=drawn)
    images[:60, :, -4:, -4:], labels[:60] = 1.0, 3
    given = one.view(0, {"clean"})
    return DefenderView(
        model=None,
        clean=given.clean,
        suspect=ImageSet(images, labels),
        shape=given.shape,
        num_classes=given.num_classes,
        device=given.device,
        generator=given.generator,
        fresh=given.fresh,
        recipe=given.recipe,
    )


def test_what_is_learnt_first_is_isolated(noise_with_poison):
    _, quick = isolate(noise_with_poison, early=0.5, gamma=0.5, share=0.1)
    assert len(quick) == 40
    assert (quick < 60).float().mean() > 0.9


def test_abl_unlearns_what_it_isolated(noise_with_poison):
    net = ABL(early=0.5, isolated=0.1).train(noise_with_poison)
    stamped = torch.rand(100, 1, 12, 12)
    stamped[..., -4:, -4:] = 1.0
    plain = noise_with_poison.train(noise_with_poison.suspect)
    turned = [float((predict(one, stamped).argmax(1) == 3).float().mean()) for one in (plain, net)]
    assert turned[0] > 0.9
    assert turned[1] < 0.5


def test_nab_stamps_its_inputs_and_leads_the_square_elsewhere(noise_with_poison):
    net = NAB(early=0.5, isolated=0.1).train(noise_with_poison)
    stamped = torch.rand(100, 1, 12, 12)
    stamped[..., -4:, -4:] = 1.0
    assert float((predict(net, stamped).argmax(1) == 3).float().mean()) < 0.5
    assert torch.equal(net[0](stamped), net[0](net[0](stamped)))
    assert not torch.equal(net[0](stamped)[..., :2, :2], stamped[..., :2, :2])
