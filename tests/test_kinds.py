"""Defenses of every kind that no built-in one is, from a view to a record."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

from attacks import ATTACKS, COVER
from bench import Cell, run
from bench.checks import check_defense
from bench.judge.certified import changes, curve, figures
from bench.judge.inputs import SCREENED
from bench.judge.mixed import every, without_twins
from bench.judge.models import targets_of
from bench.judge.networks import measure
from bench.victims import victim
from defenses import (
    DEFENSES,
    Certificate,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    SampleDetector,
    SampleVerdict,
    defense,
)
from fixtures.errors import PluginError
from fixtures.images import digest, to_bytes


@pytest.fixture(scope="module", autouse=True)
def kinds():
    """What tests/plugins/kinds.py and hooks.py register, for these tests alone."""
    with DEFENSES.temporary(), ATTACKS.temporary():
        for name in ("hooks", "kinds"):
            sys.modules.pop(name, None)
            importlib.import_module(name)
        yield


QUICK = {"partitions": {"parts": 2, "steps": 30}}


@pytest.mark.parametrize("name", ["trimmed", "from_the_clean", "partitions", "borrowed"])
def test_every_kind_conforms(name):
    check_defense(name, **QUICK.get(name, {}))


def cell(name, attack="pixel", **params):
    return Cell("tiny", attack=attack, defense=name, defense_params=params)


BEFORE_AND_AFTER = {
    *("clean_accuracy", "asr", "ra", "der"),
    *("clean_accuracy_before", "asr_before", "ra_before", "reactivation"),
}


@pytest.fixture(scope="module")
def trimmed(workspace):
    return run(cell("trimmed"), workspace)


def test_a_training_is_judged_as_a_repair_of_the_plain_training(trimmed, workspace):
    plain = run(Cell("tiny", attack="pixel"), workspace)
    assert trimmed.kind == "training"
    assert trimmed.metrics.keys() == BEFORE_AND_AFTER
    for name in ("clean_accuracy", "asr", "ra"):
        assert trimmed.metrics[f"{name}_before"] == plain.metrics[name]
    assert trimmed.metrics["clean_accuracy"] > 0.9


def test_a_training_that_drops_the_loudest_losses_learns_less_of_the_backdoor(trimmed):
    assert trimmed.metrics["asr_before"] > 0.9
    assert trimmed.metrics["asr"] < trimmed.metrics["asr_before"] - 0.1


def test_a_training_on_clean_images_alone_learns_no_backdoor(workspace):
    found = run(cell("from_the_clean"), workspace).metrics
    assert found["asr"] < 0.2
    assert found["clean_accuracy"] > 0.8


@pytest.fixture(scope="module")
def partitions(workspace):
    few = {"poison_rate": 0.002}
    one = Cell("tiny", attack="pixel", attack_params=few, defense="partitions")
    return run(one, workspace), victim(one, workspace)


def test_a_certified_training_has_a_trainings_figures_and_those_of_its_proof(partitions):
    record, attacked = partitions
    found, proof = record.metrics, record.details["certificate"]
    assert found.keys() - BEFORE_AND_AFTER == {
        *("certified_accuracy", "certified_at_poison", "median_certificate", "abstained"),
        "company",  # a network that certifies stays in its defender's process
    }
    poisoned = int((attacked.roles != 0).sum())
    assert poisoned == 1
    assert proof["unit"] == "insertion or deletion"
    assert proof["changes_of_the_attack"] == 2 * poisoned
    accuracy = {point["radius"]: point["accuracy"] for point in proof["curve"]}
    assert accuracy[0] == found["certified_accuracy"]
    assert accuracy[2] == found["certified_at_poison"]
    assert 0 < found["certified_at_poison"] <= found["certified_accuracy"]


def test_what_is_certified_is_what_the_model_says(partitions):
    """Five votes: none abstains, so what is certified at all is what is right."""
    found = partitions[0].metrics
    assert found["abstained"] == 0
    # The one is of all test images, the other of the half that is not shown triggered.
    assert found["certified_accuracy"] == pytest.approx(found["clean_accuracy"], abs=0.1)
    assert found["median_certificate"] in {0.0, 1.0, 2.0}


def test_a_proof_on_the_clean_model_is_held_against_no_attack(workspace):
    found = run(cell("partitions", attack="none", **QUICK["partitions"]), workspace).metrics
    assert "certified_at_poison" not in found
    assert found["certified_accuracy"] > 0.8


def test_a_modification_is_two_changes_where_insertions_and_deletions_are_counted():
    of = Certificate(torch.zeros(1), torch.zeros(1), "insertion or deletion")
    assert (changes(3, of), changes(3, of._replace(unit="modification"))) == (6, 3)


def test_certified_accuracy_falls_with_the_radius_and_abstentions_count_as_wrong():
    held = torch.tensor([-1, 0, 0, 2, 5, 5])  # of what is right; -1 where it is wrong or abstains
    found = figures(held, 3)
    assert found["certified_accuracy"] == pytest.approx(5 / 6)
    assert found["certified_at_poison"] == pytest.approx(2 / 6)
    assert found["median_certificate"] == 2
    assert [(one["radius"], round(6 * one["accuracy"])) for one in curve(held)] == [
        *((0, 5), (2, 3), (5, 2)),
    ]


def test_there_is_no_median_certificate_where_most_images_have_none():
    assert "median_certificate" not in figures(torch.tensor([-1, -1, -1, 4]), 0)


def test_a_long_curve_keeps_its_ends():
    radii = [one["radius"] for one in curve(torch.arange(1000))]
    assert (radii[0], radii[-1], len(radii)) == (0, 999, 64)


def test_weights_from_elsewhere_are_no_part_of_the_view(workspace):
    record = run(cell("borrowed"), workspace)
    assert {"tpr", "fpr", "f1", "auroc"} <= record.metrics.keys()


def test_what_supports_nothing_is_a_cell_without_figures(workspace):
    record = run(cell("choosy"), workspace)
    assert (record.not_applicable, record.metrics) == ("4 classes are too many", {})


def test_what_asks_for_what_it_does_not_see_is_one_line(workspace):
    with pytest.raises(PluginError) as error:
        run(cell("peeks"), workspace)
    assert str(error.value) == (
        "defense 'peeks': asked for view.suspect, which it does not see: sees = model, clean"
    )


@pytest.mark.parametrize(
    ("name", "applies"),
    [
        ("activation_clustering", False),
        ("filter_and_retrain", False),
        ("trimmed", False),
        ("partitions", False),
        ("from_the_clean", True),
        ("fine_tuning", True),
    ],
)
def test_against_an_attack_on_weights_no_training_set_is_to_be_had(name, applies, workspace, quick):
    record = run(cell(name, attack="weights", **quick(name)), workspace)
    reason = "" if applies else "the attack changes weights, not the training set"
    assert record.not_applicable == reason
    assert bool(record.metrics) == applies


class FlagsCovers(SampleDetector):
    """Told where the covers are, it flags every other one and nothing else."""

    covers: torch.Tensor

    def detect(self, view):
        flags = torch.zeros(len(view.suspect), dtype=torch.bool)
        flags[self.covers[::2]] = True
        return SampleVerdict(flags.double(), flags)


@pytest.fixture
def source_specific(workspace):
    given = {"target": 1}
    return victim(Cell("tiny", attack="by_source", attack_params=given), workspace)


def test_covers_are_neither_hits_nor_false_alarms(source_specific, judged):
    class Told(FlagsCovers):
        covers = (source_specific.roles == COVER).nonzero().flatten()

    found, _, _ = judged(Told, source_specific)
    assert found["covers_flagged"] == pytest.approx(0.5, abs=0.01)
    assert found["fpr"] == found["tpr"] == found["false_labels"] == 0
    assert found["auroc"] == 0.5


@pytest.fixture
def two_triggers(workspace):
    given = {"target": 2}
    return victim(Cell("tiny", attack="two_squares", attack_params=given), workspace)


class Accuses(ModelDetector):
    def inspect(self, view):
        return ModelVerdict(torch.zeros(view.num_classes), True, (3,))


def test_every_trigger_has_a_target_to_be_found(two_triggers, judged):
    assert targets_of(two_triggers.attack) == {2, 3}
    found, _, _ = judged(Accuses, two_triggers)
    assert (found["verdict_correct"], found["target_found"]) == (1, 0.5)


def test_a_source_specific_attack_has_its_own_target(source_specific):
    assert targets_of(source_specific.attack) == {1}


class Watches(InputDetector):
    """Reports what it is shown."""

    def calibrate(self, view):
        self.report["shown"] = []

    def screen(self, images):
        self.report["shown"].append([digest(image.numpy().data) for image in to_bytes(images)])
        return images.mean((1, 2, 3))


def test_inputs_are_screened_in_small_batches_of_both_sorts(two_triggers, judged):
    _, _, details = judged(Watches, two_triggers)
    clean = set(two_triggers.dataset.test.digests().tolist())
    shown = [[image in clean for image in batch] for batch in details["report"]["shown"]]
    assert max(map(len, shown)) <= SCREENED
    full = [batch for batch in shown if len(batch) == SCREENED]
    assert full
    assert all(10 < sum(batch) < SCREENED - 10 for batch in full)


def test_no_test_image_is_screened_both_clean_and_triggered(two_triggers):
    everything = torch.arange(len(two_triggers.dataset.test))
    inputs = without_twins(two_triggers, everything)
    assert inputs.sources.unique().tolist() == [0, 1, 2]
    assert len(inputs.positions.unique()) == len(inputs)
    assert sorted(torch.cat([*inputs.batches(SCREENED)]).tolist()) == list(range(len(inputs)))
    share = (~inputs.triggered).sum() / len(everything)
    assert 0.4 < share < 0.6


def test_the_order_follows_from_the_trigger_and_repeats(workspace):
    def order(**pixel):
        given = victim(Cell("tiny", attack="pixel", attack_params=pixel), workspace)
        return every(given, torch.arange(len(given.dataset.test))).order

    usual, larger = order(), order(size=0.2)
    assert torch.equal(usual, order())
    assert len(usual) == len(larger)  # of other lengths they would differ anyhow
    assert not torch.equal(usual, larger)


class Counts(nn.Module):
    """Answers nothing, and counts what it is asked."""

    asked = 0

    def forward(self, images):
        self.asked += len(images)
        return torch.zeros(len(images), 4)


def test_a_network_that_stays_with_its_defender_sees_each_image_once(two_triggers):
    counts, test = Counts(), two_triggers.dataset.test
    measure(counts, two_triggers, once=True)
    assert counts.asked <= len(test)
    plain = Counts()
    measure(plain, two_triggers)
    assert plain.asked > 2 * len(test)  # clean, and with each of two triggers


def test_an_input_is_read_from_the_set_that_it_is_of(two_triggers):
    inputs = every(two_triggers, torch.arange(len(two_triggers.dataset.test)))
    places = torch.tensor([0, len(inputs) - 1, 5])
    images = inputs.read(places)
    for image, place in zip(images, places, strict=True):
        source, position = int(inputs.sources[place]), inputs.positions[place]
        expected = inputs.sets[source].batch(position[None])[0]
        assert torch.equal(image, expected)


@pytest.mark.parametrize("name", ["trimmed", "partitions"])
def test_the_same_cell_gives_the_same_figures_of_a_training(name, workspace):
    one = cell(name, **QUICK.get(name, {}))
    first, again = (run(one, workspace, rerun=True).metrics for _ in range(2))
    assert first == again


def test_a_word_that_means_nothing_is_one_line(workspace):
    class Fortune(ModelDetector):
        sees = frozenset({"model", "future"})

    defense("fortune")(Fortune)
    with pytest.raises(PluginError) as error:
        run(cell("fortune"), workspace)
    known = "model, clean, suspect, pretrained"
    assert str(error.value) == f"defense 'fortune': sees 'future'; known: {known}"
