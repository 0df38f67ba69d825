"""A claim is met, red or not measured; it is shown, and fails nothing."""

from __future__ import annotations

import pytest

from bench.analysis.claims import by_series, counted, standings
from bench.analysis.rows import rows
from bench.analysis.series import measured
from bench.expected import expectations
from bench.report import claims
from bench.report.write_up import write_up

FILE = """
known = {models = ["simplecnn"], attacks = ["none", "pixel", "noise"], defenses = ["none", "nad"]}

[[claims]]
source = "somebody"
attacks = ["pixel", "noise"]
defenses = ["none"]
bounds = { asr = ">= 0.9" }

[[claims]]
source = "a paper"
attacks = ["pixel", "noise"]
defenses = ["nad"]
clean = 50
bounds = { clean_accuracy = ">= 0.9", asr = "<= 0.1" }
"""


@pytest.fixture(autouse=True)
def claimed(tmp_path, monkeypatch):
    (tmp_path / "digits.toml").write_text(FILE)
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)


@pytest.fixture
def repaired(make_record):
    def make(clean, attack="pixel", seed=0, **metrics):
        figures = {"asr_before": 1.0, "asr": 0.05, "clean_accuracy": 0.95, **metrics}
        return make_record(attack, "nad", seed, clean=clean, **figures)

    return make


def states(records):
    return [(s.attack, s.defense, s.state) for s in standings(measured(records))]


def test_a_claim_is_met_where_the_mean_over_seeds_keeps_every_bound(make_record, repaired):
    def of_seeds(*asr):
        (found,) = standings(measured([make_record(seed=s, asr=a) for s, a in enumerate(asr)]))
        return found.state

    assert of_seeds(0.86, 0.95) == "met"
    assert of_seeds(0.85, 0.94) == "red"
    assert states([repaired(50)]) == [("pixel", "nad", "met")]
    assert states([repaired(50, asr=0.2)]) == states([repaired(50, clean_accuracy=0.8)])
    assert states([repaired(50, asr=0.2)]) == [("pixel", "nad", "red")]


def test_a_claim_is_of_one_number_of_clean_images(repaired):
    (found,) = standings(measured([repaired(10, asr=0.5), repaired(None, asr=0.04)]))
    assert (found.state, found.series) == ("not measured", None)
    text = claims.markdown([found])
    assert "| a paper | pixel, nad | 50 | " in text
    assert "not measured" in text


def test_what_was_not_measured_is_not_called_red(make_record, repaired):
    lacking = repaired(50)
    del lacking.metrics["asr"]
    assert states([lacking]) == [("pixel", "nad", "not measured")]
    assert states([repaired(50, asr_before=0.1)]) == [("pixel", "nad", "not measured")]
    assert states([make_record(asr=0.1)]) == [("pixel", "none", "red")], "an attack that fails"
    assert states([make_record("none", asr=0.0)]) == []


def test_a_plugin_at_other_parameters_has_no_claims(make_record):
    assert states([make_record(asr=0.1, attack_params={"size": 0.2})]) == []


def test_claims_are_counted_and_stand_in_the_rows_they_are_about(make_record, repaired):
    records = [make_record(asr=0.95), make_record("noise", asr=0.1), repaired(50), repaired(10)]
    found = measured(records)
    said = standings(found)
    assert counted(said) == "2 met, 1 red"
    assert counted([]) == ""
    assert [row["claims"] for row in rows(found, "attack")] == ["1 met", "1 red"]
    beside = {s.clean: by_series(said).get(s.number) for s in found.of("repair").series}
    assert beside == {50: "1 met", 10: None}


def test_the_report_lists_every_claim_with_its_source_bound_and_figure(make_record, tmp_path):
    report = write_up(measured([make_record(asr=0.85)]), tmp_path).report.read_text()
    assert "1 red. A claim was fixed before it was measured" in report
    assert "| somebody | pixel | ASR | 85.00 | 0 | >= 90.00 % | red |" in report
