from __future__ import annotations

import csv
import io

import pytest

from bench.analysis.series import measured
from bench.analysis.sweep import points
from bench.harness.settings import parse_rates
from bench.report import sweep
from bench.report.write_up import write_up
from bench.spec.cell import cross
from bench.spec.defaults import poison_rate
from defenses import DEFENSES
from fixtures.errors import BenchError

OWN = poison_rate("digits", "pixel")
RATES = {0.01: 0.0, OWN: 0.95, 0.2: 0.1}
"""Swept rate -> F1."""


@pytest.fixture
def swept(make_record):
    """One attack at three rates; at its own its parameters are not given."""
    made = []
    for seed in (0, 1):
        for rate, f1 in RATES.items():
            params = {} if rate == OWN else {"poison_rate": rate}
            poison = {"poisoned_samples": round(1000 * rate), "target_samples": 100}
            common = {"attack_params": params, "poison": poison}
            made.append(
                make_record("pixel", "activation_clustering", seed, f1=f1, fpr=0.0, **common)
            )
            repaired = {"asr": 1 - f1, "clean_accuracy": 0.9, "der": 0.9}
            before = {"asr_before": 0.9, "clean_accuracy_before": 0.9}
            made.append(make_record("pixel", "fine_pruning", seed, **repaired, **before, **common))
    return made


@pytest.mark.parametrize(("text", "rates"), [(None, []), ("0.1", [0.1]), ("0.5,1", [0.5, 1.0])])
def test_rates_are_shares(text, rates):
    assert parse_rates(text) == rates


@pytest.mark.parametrize("text", ["", "3", "0", "-0.1", "0.1,0.1", "much", "0.1,", "nan"])
def test_other_rates_are_one_clear_line(text):
    with pytest.raises(BenchError, match=r"--poison-rate: .* is not a list of different shares"):
        parse_rates(text)


def test_an_attacks_own_rate_is_the_attack_as_it_is():
    assert 0.01 < OWN < 0.2
    cells = cross(["digits"], ["simplecnn"], ["none", "pixel"], ["none"], [0], [0.01, OWN])
    assert [cell.id for cell in cells] == [
        "digits-simplecnn-none-s0",
        "digits-simplecnn-pixel+poison_rate=0.01-s0",
        "digits-simplecnn-pixel-s0",
    ]


def test_a_row_for_each_rate_and_defense(swept):
    (rows,) = points(measured(swept)).values()
    assert [(row["defense"], row["rate"], row["poisons"]) for row in rows] == [
        ("activation_clustering", 0.01, 10),
        ("activation_clustering", OWN, round(1000 * OWN)),
        ("activation_clustering", 0.2, 200),
        ("fine_pruning", 0.01, 10),
        ("fine_pruning", OWN, round(1000 * OWN)),
        ("fine_pruning", 0.2, 200),
    ]
    assert rows[1]["f1"].mean == pytest.approx(0.95)
    assert rows[1]["target_share"] == pytest.approx(10 * OWN)


def test_one_rate_is_no_sweep(swept):
    assert points(measured(r for r in swept if not r.cell.attack_params)) == {}


def test_studies_and_identities_do_not_mix(swept, make_record):
    other = [make_record("pixel", "fine_pruning", 0, dataset="mnist", asr=0.5)]
    swept_there = make_record(
        "pixel", "fine_pruning", dataset="mnist", asr=0.5, attack_params={"poison_rate": 0.1}
    )
    old = make_record("pixel", "fine_pruning", asr=0.0, code="2")
    found = points(measured([*swept, *other, swept_there, old]))
    assert {study: len(rows) for study, rows in found.items()} == {
        "digits / simplecnn": 6,
        "mnist / simplecnn": 2,
    }
    text = sweep.markdown(found["digits / simplecnn"])
    assert text.count("6 of 6 cells, none lacking.") == 2


def test_what_was_not_measured_has_no_column(make_record):
    made = [
        make_record("pixel", "activation_clustering", verdict_correct=1.0, attack_params=params)
        for params in ({}, {"poison_rate": 0.3})
    ]
    text = sweep.markdown(points(measured(made))["digits / simplecnn"])
    assert "verdict correct (%)" in text
    assert "F1" not in text


def test_a_sweep_is_written_as_table_and_figure(swept, tmp_path):
    written = write_up(measured(swept), tmp_path)
    assert {"sweep.md", "sweep.csv"} <= {path.name for path in written.tables}
    assert (tmp_path / "digits-simplecnn-sweep.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "sweep.md").read_text()
    assert "share of the target's class (%)" in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text())))
    assert [float(row["rate"]) for row in rows] == [0.01, OWN, 0.2] * 2


def test_figures_do_not_average_over_rates(swept, tmp_path, monkeypatch):
    from bench.report import figures

    drawn = []
    monkeypatch.setattr(figures, "figures_of", lambda study: drawn.extend(study.records) or {})
    figures.draw_all(measured(swept), tmp_path)
    assert drawn
    assert not [record for record in drawn if record.cell.attack_params]


def test_the_benchmark_sweeps_with_one_command(bench):
    found = bench("--collect-only", "-q", "--attack=none,pixel", f"--poison-rate=0.01,{OWN},0.2")
    names = [line.partition("::")[2] for line in found.outlines if "::" in line]
    assert len(names) == (len(DEFENSES.names()) + 1) * (1 + 3)
    assert "test_repair[digits-simplecnn-pixel+poison_rate=0.2-fine_pruning-s0]" in names
