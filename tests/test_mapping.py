"""All-to-all labels: every class is sent to the next."""

from __future__ import annotations

import pytest
import torch

from attacks import ATTACKS, POISON
from bench import Cell, run
from bench.judge import formulas
from bench.spec.cell import cross, with_parameters


def test_every_class_is_sent_to_the_next_and_the_last_to_the_first():
    attack = ATTACKS.create("pixel", mapping="all2all", num_classes=4)
    assert attack.aim(torch.tensor([0, 1, 2, 3])).tolist() == [1, 2, 3, 0]


def test_all_classes_are_poisoned_and_relabelled_by_the_mapping():
    labels = torch.arange(400) % 4
    attack = ATTACKS.create("pixel", mapping="all2all", num_classes=4, poison_rate=0.25)
    plan = attack.choose(labels, torch.Generator().manual_seed(0))
    poison = plan.roles == POISON
    assert int(poison.sum()) == 100
    assert set(labels[poison].tolist()) == {0, 1, 2, 3}
    assert torch.equal(plan.labels[poison], (labels[poison] + 1) % 4)
    assert torch.equal(plan.labels[~poison], labels[~poison])


def test_asr_asks_each_image_for_its_own_aim():
    labels = torch.tensor([0, 1, 2, 3])
    predicted = torch.tensor([1, 2, 2, 1])
    aims = (labels + 1) % 4
    counts = formulas.counted(labels, aims, torch.ones(4).bool())
    assert formulas.asr(predicted, aims, counts) == 0.5
    assert formulas.robust_accuracy(predicted, labels, counts) == 0.25


def test_a_clean_label_attack_has_no_mapping():
    with pytest.raises(ValueError, match="a clean-label attack has one target"):
        ATTACKS.create("sig", mapping="all2all")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"mapping": "all2some"}, "mapping is one of all2one, all2all, got 'all2some'"),
        ({"target": 10}, "target is a class from 0 to 9, got 10"),
    ],
)
def test_a_wrong_aim_is_named(params, reason):
    with pytest.raises(ValueError, match=reason):
        ATTACKS.create("pixel", **params)


def test_an_all_to_all_backdoor_is_learned_and_measured_as_such(workspace):
    params = {"mapping": "all2all", "poison_rate": 0.2}
    found = run(Cell("digits", attack="pixel", attack_params=params), workspace)
    assert found.metrics["asr"] > 0.8
    assert found.metrics["asr_clean_model"] < 0.05


def test_parameters_on_the_command_line_are_those_of_the_cells_id():
    assert with_parameters("pixel+mapping=all2all+size=0.2") == (
        "pixel",
        {"mapping": "all2all", "size": 0.2},
    )
    cells = cross(
        *(["digits"], ["simplecnn"], ["pixel+mapping=all2all"]),
        *(["filter_and_retrain+detector=spectral_signatures"], [0]),
    )
    assert [cell.id for cell in cells] == [
        "digits-simplecnn-pixel+mapping=all2all-filter_and_retrain+detector=spectral_signatures-s0"
    ]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--attack=pixel+mapping=up", "--attack: 'pixel+mapping=up': mapping is one of"),
        ("--attack=pixel+all2all", "--attack: 'pixel+all2all': 'all2all' is not name=value"),
        ("--attack=pixel+tint=3", "--attack: 'pixel+tint=3': "),
        ("--defense=filter_and_retrain+detector=strip", "is no SampleDetector"),
    ],
)
def test_a_wrong_parameter_is_one_line(bench, argument, reason):
    result = bench(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR")]
    assert reason in line
