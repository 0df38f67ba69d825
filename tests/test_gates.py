from __future__ import annotations

import dataclasses

import pytest

from attacks import ATTACKS
from bench.analysis import gates
from bench.analysis.gates import Gate, judge, judged, verdict
from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.errors import BenchError

CELL = Cell("mnist", attack="pixel")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gates.toml"
    path.write_text('[mnist.simplecnn.pixel.none]\nasr = ">= 0.9"\nclean_accuracy = "<= 0.5"\n')
    return path


@pytest.mark.parametrize(
    ("direction", "value", "passed"),
    [(">=", 0.9, True), (">=", 0.89, False), ("<=", 0.9, True), ("<=", 0.91, False)],
)
def test_a_gate_holds_in_its_direction(direction, value, passed):
    assert Gate("asr", direction, 0.9, value).passed is passed


@pytest.fixture
def digits(tmp_path, monkeypatch):
    path = tmp_path / "gates.toml"
    path.write_text('[digits.simplecnn.pixel.none]\nasr = ">= 0.5"\n')
    monkeypatch.setattr(gates, "FILE", path)


@pytest.mark.usefixtures("digits")
def test_records_are_judged_by_the_mean_of_their_seeds(make_record):
    def of(*values):
        return verdict([make_record(seed=seed, asr=value) for seed, value in enumerate(values)])

    assert of(0.9) == of(0.4, 0.7) == "pass"
    assert of(0.4) == of(0.4, 0.5) == "fail"
    assert verdict([make_record("noise", asr=0.9)]) == "not gated"


@pytest.mark.usefixtures("digits")
def test_a_defense_that_does_not_apply_is_not_judged(make_record):
    without = make_record(seed=0)
    without.not_applicable = "the model has no units"
    assert verdict([without]) == "not applicable"
    assert judged([without]) == []
    assert verdict([without, make_record(seed=1, asr=0.9)]) == "pass"


def test_a_failing_gate_names_metric_value_and_bound(file):
    asr, accuracy = judge(CELL, {"asr": 0.5, "clean_accuracy": 0.5}, file)
    assert str(asr) == "asr misses its gate: is 50.00 %, must be >= 90.00 %"
    assert str(accuracy) == "clean_accuracy is 50.00 %, must be <= 50.00 %"


def test_a_cell_without_gates_is_not_gated(file):
    assert judge(Cell("digits", attack="pixel"), {}, file) == []
    changed = dataclasses.replace(CELL, attack_params={"size": 4})
    assert judge(changed, {}, file) == []


def test_a_gate_on_what_was_not_measured_is_missed(file):
    asr, _ = judge(CELL, {}, file)
    assert str(asr) == "asr misses its gate: was not measured, must be >= 90.00 %"


@pytest.mark.parametrize("text", ["0.9", '"> 0.9"', '"about 0.9"', "true"])
def test_a_gate_that_says_nothing_is_an_error(tmp_path, text):
    path = tmp_path / "gates.toml"
    path.write_text(f"[mnist.simplecnn.pixel.none]\nasr = {text}\n")
    with pytest.raises(BenchError, match=r"gates.toml: mnist-simplecnn-pixel-s0: asr = "):
        judge(CELL, {"asr": 1.0}, path)


def test_the_committed_gates_name_what_exists():
    table = files.read_toml(gates.FILE)
    del table["tolerance"]
    for dataset, models in table.items():
        for attacks in models.values():
            for attack, defenses in attacks.items():
                assert attack in ATTACKS
                for defense, bounds in defenses.items():
                    assert defense == "none" or defense in DEFENSES
                    assert set(bounds) <= set(METRICS)
                    assert judge(
                        Cell(dataset, attack=attack, defense=defense), dict.fromkeys(bounds, 0.5)
                    )
