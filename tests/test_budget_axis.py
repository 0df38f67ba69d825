"""The clean budget as an axis: what each defense makes of fewer and of more clean images."""

from __future__ import annotations

import csv
import io
import math

import pytest

from bench.analysis.budget import points
from bench.analysis.rows import rows
from bench.analysis.series import measured
from bench.analysis.studies import studies
from bench.report import budget
from bench.report.write_up import write_up

REACHED = {5: 0.8, None: 0.9, "all": 0.95}
"""Budget that was asked for, None for the default of 50 -> clean accuracy after repair."""


@pytest.fixture
def swept(make_record):
    """Two repairs at three budgets, and a detector that sees no clean image."""

    def resolved(record):
        record.identity["asked"]["clean"] = {None: 50, "all": None}.get(record.cell.clean, 5)
        return record

    made = []
    for seed in (0, 1):
        for clean, accuracy in REACHED.items():
            for defense, worse in (("fine_pruning", 0.0), ("from_scratch", 0.1)):
                figures = {"clean_accuracy": accuracy - worse, "asr": 0.1, "der": 0.9 - worse}
                before = {"asr_before": 0.9, "clean_accuracy_before": 0.98}
                made.append(make_record("pixel", defense, seed, clean=clean, **figures, **before))
        made.append(make_record("pixel", "activation_clustering", seed, f1=0.7))
        made.append(make_record("pixel", "activation_clustering", seed, f1=0.2, clean=5))
        made.append(make_record("pixel", "largest_class", seed, f1=0.3, asr_before=0.9))
        made.append(make_record("pixel", seed=seed, asr=0.9))
    return [resolved(record) for record in made]


def test_a_point_for_each_budget_and_defense(swept):
    (found,) = points(measured(swept)).values()
    accuracy = {(p["defense"], p["budget"]): p["clean_accuracy"].mean for p in found if "der" in p}
    assert accuracy == {
        **{("fine_pruning", 5): 0.8, ("fine_pruning", 50): 0.9, ("fine_pruning", math.inf): 0.95},
        **{("from_scratch", 5): pytest.approx(0.7), ("from_scratch", 50): pytest.approx(0.8)},
        ("from_scratch", math.inf): pytest.approx(0.85),
    }
    assert {p["seeds"] for p in found} == {2}
    assert {p["defense"] for p in found if p["null"]} == {"from_scratch", "largest_class"}


def test_a_defense_that_sees_no_clean_image_is_the_same_at_every_budget(swept):
    (found,) = points(measured(swept)).values()
    flat = {p["budget"]: p["f1"].mean for p in found if p["defense"] == "largest_class"}
    assert flat == {5: 0.3, 50: 0.3}


def test_one_budget_is_no_axis(swept):
    assert points(measured(r for r in swept if r.cell.clean is None)) == {}


def test_a_budget_that_was_measured_under_two_names_is_one_point(swept, make_record):
    again = make_record("pixel", "fine_pruning", clean=50, clean_accuracy=0.1, asr=0.1, der=0.1)
    (found,) = points(measured([*swept, again])).values()
    at = [p for p in found if (p["defense"], p["budget"]) == ("fine_pruning", 50)]
    assert [p["clean_accuracy"].mean for p in at] == [0.9]


def test_a_clean_model_has_no_backdoor_to_repair(swept, make_record):
    clean = [
        make_record("none", "fine_pruning", clean=budget, clean_accuracy=0.9, asr=0.0, der=0.5)
        for budget in (5, 10)
    ]
    (found,) = points(measured([*swept, *clean])).values()
    assert {p["attack"] for p in found} == {"pixel"}


def test_budgets_share_no_row_and_no_rank(swept):
    found = measured(swept)
    told = [row["defense"] for row in rows(found, "repair")]
    assert sorted(told) == sorted(
        [
            *("fine_pruning", "fine_pruning clean=5", "fine_pruning clean=all"),
            *("from_scratch", "from_scratch clean=5", "from_scratch clean=all"),
        ]
    )
    (study,) = studies(found)
    ranked = next(table for table in study.tables if table.title == "Repairs")
    reached = {row["defense"].text: row["clean accuracy (%), mean"].value for row in ranked.rows}
    assert reached["fine_pruning"] == pytest.approx(0.9)
    assert reached["from_scratch"] == pytest.approx(0.8)


def test_defenses_stand_side_by_side_at_each_budget(swept):
    (found,) = points(measured(swept)).values()
    text = budget.markdown(found)
    table = text.partition("### clean accuracy (%)")[2].partition("###")[0]
    assert "fine_pruning | from_scratch (null)" in " ".join(table.split())
    cells = [line.replace(" ", "").strip("|").split("|")[:4] for line in table.splitlines()]
    assert ["pixel", "5", "80.00", "70.00"] in cells
    assert ["pixel", "all", "95.00", "85.00"] in cells
    assert "12 of 12 cells, none lacking." in table


def test_an_attack_that_did_not_take_is_told_and_has_no_figure(swept, make_record):
    weak = [
        make_record("blur", "fine_pruning", clean=c, asr=0.0, asr_before=0.1, der=0.5)
        for c in (5, 10)
    ]
    (found,) = points(measured([*swept, *weak])).values()
    lines = [line for line in budget.markdown(found).splitlines() if line.startswith("| blur")]
    assert lines
    assert all("did not take: ASR 10 %" in line for line in lines)


def test_the_axis_is_written_as_tables_and_figures(swept, tmp_path):
    written = write_up(measured(swept), tmp_path)
    assert {"budget.md", "budget.csv"} <= {path.name for path in written.tables}
    for kind in ("repair", "detection"):
        picture = tmp_path / f"digits-simplecnn-budget-{kind}.png"
        assert picture in written.figures
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.name in (tmp_path / "budget.md").read_text()
    table = list(csv.DictReader(io.StringIO((tmp_path / "budget.csv").read_text())))
    assert {row["budget"] for row in table} == {"5.0", "50.0", "inf"}
