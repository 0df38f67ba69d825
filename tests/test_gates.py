from __future__ import annotations

from dataclasses import replace

import pytest

from bench.analysis.gates import Gate, judged, verdict
from bench.expected import expectations, gate_files
from bench.expected.bounds import Bound

KNOWN = (
    'known = {models = ["simplecnn"], attacks = ["none", "pixel", "noise"],'
    ' defenses = ["none", "anp"]}'
)
PIXEL = """
[[gates]]
[gates.cells.simplecnn]
pixel.none = { asr = ">= 0.9", clean_accuracy = "<= 0.5" }

[[gates]]
clean = 50
[gates.cells.simplecnn]
pixel.anp = { asr = "<= 0.1" }
"""


@pytest.fixture(autouse=True)
def digits_only(tmp_path, monkeypatch):
    """Expectations of digits only."""
    gates = tmp_path / "gates"
    gates.mkdir()
    (tmp_path / "digits.toml").write_text(KNOWN)
    (gates / "digits.toml").write_text(PIXEL)
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)
    monkeypatch.setattr(gate_files, "FOLDER", gates)


@pytest.mark.parametrize(
    ("direction", "value", "passed"),
    [
        (">=", 0.9, True),
        (">=", 0.89, False),
        ("<=", 0.9, True),
        ("<=", 0.91, False),
        (">=", None, False),
        ("<=", None, False),
    ],
)
def test_a_gate_holds_in_its_direction(direction, value, passed):
    assert Gate(Bound("asr", direction, 0.9), value).passed is passed


def test_a_failing_gate_names_metric_value_and_bound(make_record):
    asr, accuracy = judged([make_record(asr=0.5, clean_accuracy=0.5)])
    assert str(asr) == "asr misses its gate: is 50.00 %, must be >= 90.00 %"
    assert str(accuracy) == "clean_accuracy is 50.00 %, must be <= 50.00 %"


def test_a_gate_on_what_was_not_measured_is_missed(make_record):
    asr, _ = judged([make_record(clean_accuracy=0.4)])
    assert str(asr) == "asr misses its gate: was not measured, must be >= 90.00 %"


def test_records_are_judged_by_the_mean_of_their_seeds(make_record):
    def of(*values):
        return verdict(
            [make_record(seed=s, asr=value, clean_accuracy=0.4) for s, value in enumerate(values)]
        )

    assert of(0.95) == of(0.86, 0.95) == "pass"
    assert of(0.85) == of(0.85, 0.9) == "fail"


def test_a_known_cell_without_gates_is_not_gated(make_record):
    assert verdict([make_record("noise", asr=0.0)]) == "not gated"
    assert verdict([make_record("pixel", "anp", der=0.0, asr_before=1.0)]) == "not gated"


def test_gates_are_of_the_number_of_clean_images_that_they_were_made_with(make_record):
    def of(clean):
        return verdict([make_record("pixel", "anp", clean=clean, asr=0.2, asr_before=1.0)])

    assert (of(50), of(300), of(None)) == ("fail", "not gated", "not gated")


def test_default_bounds_are_for_the_default_budget_and_for_no_null(make_record):
    def of(defense, clean):
        return verdict([make_record("pixel", defense, clean=clean, der=0.4, asr_before=1.0)])

    assert (of("fine_pruning", None), of("fine_pruning", 10)) == ("fail", "not gated")
    assert of("fine_tuning", None) == "not gated"


def test_what_is_judged_on_images_for_choices_is_not_gated(make_record):
    record = make_record(asr=0.1, clean_accuracy=0.4)
    assert verdict([record]) == "fail"
    record.cell = replace(record.cell, split="validation")
    assert verdict([record]) == "not gated"


def test_plugins_at_other_parameters_are_not_gated(make_record):
    assert verdict([make_record(asr=0.0, attack_params={"size": 0.2})]) == "not gated"
    assert verdict([make_record("blur", asr=0.0, attack_params={"size": 0.2})]) == "not gated"


def test_a_defense_that_does_not_apply_is_not_judged(make_record):
    without = make_record(seed=0)
    without.not_applicable = "the model has no units"
    assert verdict([without]) == "not applicable"
    assert judged([without]) == []
    assert verdict([without, make_record(seed=1, asr=0.9, clean_accuracy=0.4)]) == "pass"


TOOK = {"asr_before": 0.9}


@pytest.mark.parametrize(
    ("cell", "metrics", "expected"),
    [
        # an attack that the file does not know, a defense, a data set without a file
        (("blur", "none", "digits"), {"asr": 0.6}, "pass"),
        (("blur", "none", "digits"), {"asr": 0.4}, "fail"),
        (("pixel", "none", "mnist"), {"asr": 0.4}, "fail"),
        (("pixel", "fine_pruning", "digits"), {"der": 0.46, **TOOK}, "pass"),
        (("pixel", "fine_pruning", "digits"), {"der": 0.44, **TOOK}, "fail"),
        (("blur", "strip", "digits"), {"auroc": 0.4, **TOOK}, "fail"),
        (
            ("pixel", "spectral_signatures", "mnist"),
            {"auroc": 0.6, "false_labels": 1.0, **TOOK},
            "pass",
        ),
        (("pixel", "neural_cleanse", "mnist"), {"verdict_correct": 0.0, **TOOK}, "fail"),
        # on a clean model a repair may do no harm; its own figures prove nothing
        (("none", "fine_pruning", "mnist"), {"der": 0.4, "asr_before": 0.0}, "fail"),
        (("none", "none", "mnist"), {"asr": 0.0, "clean_accuracy": 0.1}, "not gated"),
        # an attack that did not take; a metric that was not measured
        (("blur", "strip", "digits"), {"auroc": 0.4, "asr_before": 0.1}, "not gated"),
        (("none", "spectral_signatures", "mnist"), {"fpr": 0.0, "false_labels": 0.0}, "not gated"),
    ],
)
def test_what_is_not_known_is_held_to_the_bounds_of_its_kind(cell, metrics, expected, make_record):
    attack, defense, dataset = cell
    assert verdict([make_record(attack, defense, dataset=dataset, **metrics)]) == expected
