"""A cell whose defense does not apply: it says why, counts in no mean, and is not missed."""

from __future__ import annotations

import csv
import io

import pytest

from bench.analysis.accepted import accepted
from bench.analysis.completeness import complete
from bench.analysis.heat import heat_maps
from bench.analysis.rows import rows
from bench.analysis.series import measured
from bench.analysis.studies import every_cell, studies
from bench.report import leaderboard, tables
from bench.report.write_up import write_up

REASON = "its network has no units to prune"


@pytest.fixture
def records(make_record):
    """One repair on two attacks; to the second it does not apply."""
    made = [make_record(name, asr=0.99, clean_accuracy=0.98) for name in ("pixel", "noise")]
    made.append(make_record("pixel", "fine_pruning", der=0.9, asr=0.1, asr_before=0.99))
    made.append(make_record("noise", "fine_pruning"))
    made[-1].not_applicable = REASON
    return made


@pytest.fixture
def found(records):
    return measured(records)


def test_its_row_says_so_and_why(found):
    row = rows(found, "repair")[1]
    assert (row["attack"], row["gates"], row["remark"]) == ("noise", "not applicable", REASON)
    assert row["asr"] is None
    text = tables.markdown(rows(found, "repair"))
    assert "not applicable" in text
    assert REASON in text


def test_it_is_in_no_mean(found):
    (study,) = studies(found)
    (repair,) = study.tables[0].rows
    assert repair["DER, mean"].text == "0.900"
    assert repair["attacks"].text == "1 of 2"


def test_it_leaves_an_attack_without_a_rank(found):
    (study,) = studies(found)
    ranks = {row["attack"].text: row["rank"].text for row in study.tables[-1].rows}
    assert ranks == {"pixel": "1", "noise": ""}


def test_it_is_not_lacking(found):
    assert complete(found, "repair") == "Repair: 2 of 2 cells, none lacking."


def test_the_heat_map_says_it_instead_of_a_figure(found):
    (table,) = heat_maps(found)
    squares = {row["attack"].text: row["fine_pruning"] for row in table.rows}
    assert (squares["noise"].text, squares["noise"].value) == ("not applicable", None)
    assert squares["pixel"].text == "10.00"


def test_the_leaderboard_lists_it_with_its_reason(found):
    kinds = {(row["attack"].text, row["kind"].text) for row in every_cell(found).rows}
    assert ("noise", "repair, not applicable") in kinds
    listed = csv.DictReader(io.StringIO(leaderboard.csv(found)))
    reasons = {(row["attack"], row["defense"]): row["not_applicable"] for row in listed}
    assert reasons["noise", "fine_pruning"] == REASON
    assert reasons["pixel", "fine_pruning"] == ""


def test_a_baseline_does_not_hold_it(found):
    assert "digits-simplecnn-noise-fine_pruning" not in accepted(found)
    assert "digits-simplecnn-pixel-fine_pruning" in accepted(found)


def test_it_is_written_up(found, tmp_path):
    written = write_up(found, tmp_path)
    assert REASON in written.report.read_text()


def test_a_study_where_nothing_applies_is_written_up(make_record, tmp_path):
    made = [make_record("pixel", name) for name in ("fine_pruning", "activation_clustering")]
    for record in made:
        record.not_applicable = REASON
    written = write_up(measured(made), tmp_path)
    assert (tmp_path / "repair.md").read_text().count(REASON) == 1
    assert (tmp_path / "detection.md").read_text().count(REASON) == 1
    assert written.report.exists()
