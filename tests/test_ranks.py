"""Ranks that the data can tell apart, and what a defense must beat to be worth a rank."""

from __future__ import annotations

import pytest

from bench.analysis.nulls import Nulls
from bench.analysis.ranks import ranks, shown
from bench.analysis.rows import rows
from bench.analysis.series import SAME_VICTIMS, measured
from bench.analysis.studies import studies
from bench.measure import resolve
from bench.report import tables
from bench.report.figures import figures_of
from bench.spec.cell import Cell
from bench.spec.identity import key, without
from defenses import DEFENSES

COUNTED = {"poison": {"triggered": 10_000}, "data": {"test": 10_000}}


def row(*values, trials=10_000):
    return {"pixel": {seed: (value, trials) for seed, value in enumerate(values)}}


def ranked(*found):
    return [shown(rank) for rank in ranks(found)]


def test_neighbours_that_differ_in_every_seed_have_their_own_ranks():
    assert ranked(row(0.90, 0.91, 0.92), row(0.70, 0.71, 0.72)) == ["1", "2"]


def test_neighbours_that_change_places_from_seed_to_seed_share_one():
    first, second, third = row(0.99, 0.98), row(0.80, 0.60), row(0.60, 0.78)
    assert ranked(first, second, third) == ["1-3", "1-3", "1-3"], "two seeds tell nothing apart"
    first, second, third = row(0.990, 0.991, 0.989), row(0.80, 0.60, 0.7), row(0.60, 0.78, 0.7)
    assert ranked(first, second, third) == ["1", "2-3", "2-3"]


def test_a_chain_of_neighbours_is_one_rank():
    rising = [row(*(0.90 - step + noise for noise in (0, 0.05, -0.05))) for step in (0, 0.02, 0.04)]
    shuffled = [rising[0], row(0.93, 0.83, 0.88), rising[2]]
    assert ranked(*shuffled) == ["1-3"] * 3


def test_only_what_both_were_tried_on_tells_them_apart():
    first = {**row(0.9, 0.91, 0.92), "noise": row(0.1, 0.1, 0.1)["pixel"]}
    assert ranked(first, row(0.7, 0.71, 0.72)) == ["1", "2"]
    assert ranked(row(0.9, 0.91, 0.92), {"noise": row(0.1, 0.1, 0.1)["pixel"]}) == ["1-2", "1-2"]


@pytest.fixture
def repairs(make_record):
    """Records of repairs by their DER over three seeds, on one attack."""

    def make(attack="pixel", **der):
        return [
            make_record(attack, name, seed, der=value, asr=0.01, **COUNTED)
            for name, values in der.items()
            for seed, value in enumerate(values)
        ]

    return make


NULL = "fine_tuning"


def test_the_null_of_these_tests_says_that_it_is_one():
    assert DEFENSES[NULL].info.null
    assert not DEFENSES["fine_pruning"].info.null


def marks(records, kind="repair"):
    found = rows(measured(records), kind)
    return {(r["defense"], r["attack"]): r["nulls"] for r in found}


def test_a_repair_that_does_not_beat_a_null_says_so_in_every_table(repairs):
    made = repairs(fine_tuning=(0.98, 0.97, 0.99), fine_pruning=(0.98, 0.98, 0.98))
    made += repairs(anp=(0.995, 0.992, 0.996), nad=(0.6, 0.6, 0.6))
    said = "does not beat fine_tuning"
    assert marks(made) == {
        ("fine_tuning", "pixel"): "a null",
        ("fine_pruning", "pixel"): said,
        ("anp", "pixel"): said,  # better in each seed, and not by more than the interval
        ("nad", "pixel"): said,
    }
    for brief in (True, False):
        assert tables.markdown(rows(measured(made), "repair"), brief=brief).count(said) == 3
    (study,) = studies(measured(made))
    (table,) = (table for table in study.tables if table.title == "Repairs")
    assert {r["defense"].text: r["against its nulls"].text for r in table.rows} == {
        "anp": said, "fine_pruning": said, "nad": said, "fine_tuning": "a null",
    }  # fmt: skip
    assert "Nulls: fine_tuning." in table.note


def test_a_repair_that_is_better_by_more_than_the_interval_beats_it(repairs):
    made = repairs(fine_tuning=(0.80, 0.81, 0.82), anp=(0.95, 0.96, 0.97))
    assert marks(made)["anp", "pixel"] == ""


def test_a_null_of_another_budget_or_other_victims_is_none(repairs):
    made = repairs(fine_tuning=(0.9, 0.9, 0.9), anp=(0.5, 0.5, 0.5))
    others = [r for r in made if r.cell.defense == NULL]
    for record in others:
        record.identity["code"]["attack"] = "another"
    assert marks(made)["anp", "pixel"] == ""


@pytest.mark.parametrize("asked", [{"defense": "anp"}, {"defense": "anp", "clean": 5}])
def test_a_defense_and_its_attack_are_of_the_same_victims(workspace, asked):
    """Whatever else shapes a defended cell, its victim is the one whose ASR the attack's has."""
    plain, defended = (
        resolve(Cell("tiny", attack="pixel", **more), workspace) for more in ({}, asked)
    )
    assert plain.victim.key == defended.victim.key
    left = [key(without(job.identity, *SAME_VICTIMS)) for job in (plain, defended)]
    assert left[0] == left[1]


def test_where_no_null_was_measured_the_note_says_so(repairs):
    (study,) = studies(measured(repairs(anp=(0.5, 0.5, 0.5))))
    table = study.tables[0]
    assert "against its nulls" not in table.rows[0]
    assert "Nulls not measured: " in table.note
    assert NULL in table.note


def test_the_attack_table_leaves_the_nulls_out_of_the_best_repair(repairs):
    made = repairs(fine_tuning=(0.9, 0.9, 0.9), anp=(0.5, 0.5, 0.5))
    for record in made:
        record.metrics["asr"] = 0.0 if record.cell.defense == NULL else 0.3
    (study,) = studies(measured(made))
    (attacks,) = (table for table in study.tables if table.title == "Attacks")
    assert attacks.rows[0]["ASR left after the best repair (%)"].text.endswith("(anp)")


@pytest.mark.parametrize(
    ("auroc", "said"), [((0.5, 0.52, 0.49), "does not beat chance"), ((0.9, 0.91, 0.92), "")]
)
def test_a_detector_must_beat_chance(make_record, auroc, said):
    made = [
        make_record("pixel", "strip", seed, auroc=value, tpr=0.5, fpr=0.05, **COUNTED)
        for seed, value in enumerate(auroc)
    ]
    assert marks(made, "detection")["strip", "pixel"].partition(", ")[0] == said


def test_verdicts_on_models_are_held_against_chance_with_the_clean_ones(make_record):
    """Always guilty is right of every attacked model, and wrong of every clean one."""

    def mark(clean):
        made = [
            make_record(attack, "neural_cleanse", seed, verdict_correct=right)
            for attack, right in (("pixel", 1.0), ("none", clean))
            for seed in range(10)
        ]
        of = {s.cell.attack: s for s in measured(made).series}
        return Nulls(measured(made)).mark([of["pixel"]], of["none"])

    assert mark(0.0) == "does not beat chance"
    assert mark(1.0) == ""


def test_a_figure_of_a_repair_has_a_dashed_line_for_each_null(repairs):
    made = repairs(fine_tuning=(0.9, 0.9, 0.9), anp=(0.5, 0.5, 0.5))
    for record in made:
        record.metrics |= {"clean_accuracy": 0.9, "clean_accuracy_before": 0.95, "asr_before": 1.0}
    drawn = {name: draw() for name, draw in figures_of(measured(made)).items() if "repair" in name}
    lines = {
        name: [line for line in figure.axes[1].collections if line.get_linestyle() != "solid"]
        for name, figure in drawn.items()
    }
    (line,) = lines["repair-anp"]
    assert line.get_label() == "fine_tuning (null)"
    assert line.get_segments()[0][0][1] == pytest.approx(1.0), "its ASR in per cent"
    assert lines["repair-fine_tuning"] == [], "of itself it has none"
