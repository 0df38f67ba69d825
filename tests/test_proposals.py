"""Regression gates are made of records by one rule, and mean what the baseline means."""

from __future__ import annotations

import pytest

from bench.__main__ import main
from bench.analysis.baseline import allowance
from bench.analysis.gates import verdict
from bench.analysis.proposals import proposals
from bench.analysis.series import measured
from bench.analysis.statistics import estimate
from bench.expected import expectations, gate_files

ASR = (0.90, 0.94, 0.95)


@pytest.fixture
def attacked(make_record):
    return [
        make_record(seed=seed, asr=asr, clean_accuracy=0.98, linf=0.5)
        for seed, asr in enumerate(ASR)
    ]


def bounds(records):
    return {bound.metric: bound for p in proposals(measured(records)) for bound in p.bounds}


def test_a_gate_is_where_one_new_seed_would_have_regressed(attacked):
    found = bounds(attacked)
    figure = estimate(ASR)
    limit = figure.mean - allowance(expectations.tolerance("digits")["asr"], figure, 1)
    assert found["asr"].direction == ">="
    assert limit - 0.001 < found["asr"].limit <= limit
    assert set(found) == {"asr", "clean_accuracy"}, "L-inf is neither good nor bad"


def test_a_bound_is_rounded_away_from_what_was_measured(make_record):
    of_repair = [
        make_record("pixel", "anp", s, asr=0.1234, clean_accuracy=0.9876) for s in range(3)
    ]
    allowed = expectations.tolerance("digits")
    found = bounds(of_repair)
    assert found["asr"].direction == "<="
    assert found["asr"].limit == pytest.approx(0.174)  # 0.1234 + 0.05
    assert found["clean_accuracy"].limit == pytest.approx(0.977)  # 0.9876 - 0.01
    assert (allowed["asr"], allowed["clean_accuracy"]) == (0.05, 0.01)


def test_what_no_figure_could_miss_is_no_gate(make_record):
    scattered = [
        make_record("pixel", "anp", seed, asr=asr, clean_accuracy=0.98)
        for seed, asr in enumerate((0.0, 0.5, 1.0))
    ]
    assert set(bounds(scattered)) == {"clean_accuracy"}


def test_few_seeds_other_parameters_and_attacks_that_failed_make_no_gate(attacked, make_record):
    assert bounds(attacked[:2]) == {}
    failed = [make_record("noise", seed=s, asr=0.1, clean_accuracy=0.98) for s in range(3)]
    assert bounds(failed) == {}
    swept = [
        make_record(seed=s, asr=0.9, clean_accuracy=0.98, attack_params={"size": 0.2})
        for s in range(3)
    ]
    assert bounds(swept) == {}


def test_the_command_writes_gates_that_the_records_keep_and_worse_ones_miss(
    attacked, make_record, tmp_path, monkeypatch, capsys
):
    repaired = [
        make_record("pixel", "anp", s, clean=clean, asr=asr, asr_before=1.0, clean_accuracy=0.97)
        for s in range(3)
        for clean, asr in ((None, 0.3), (50, 0.1))
    ]
    for record in [*attacked, *repaired]:
        record.save(record.path(tmp_path))
    assert main(["gates", str(tmp_path), "--to", str(tmp_path / "gates")]) == 0
    assert "6 gates of 3 cells" in capsys.readouterr().out
    monkeypatch.setattr(gate_files, "FOLDER", tmp_path / "gates")
    assert verdict(attacked) == verdict(repaired[::2]) == verdict(repaired[1::2]) == "pass"
    assert verdict([make_record(asr=0.6, clean_accuracy=0.98)]) == "fail"
    weaker = make_record("pixel", "anp", clean=50, asr=0.3, asr_before=1.0, clean_accuracy=0.97)
    assert verdict([weaker]) == "fail"


def test_records_that_make_no_gate_are_told_of(make_record, tmp_path, capsys):
    record = make_record(asr=0.9)
    record.save(record.path(tmp_path))
    assert main(["gates", str(tmp_path), "--to", str(tmp_path / "gates")]) == 0
    assert "digits: no gate: no cell at its defaults was measured over 3 seeds" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "gates").exists()
