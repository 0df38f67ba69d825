"""What tables and reports say of covers, several triggers, trainings, splits and recipes."""

from __future__ import annotations

import dataclasses

import pytest

from bench.analysis.heat import heat_maps
from bench.analysis.ranking import LEFT_IN_TRAINING, rankings
from bench.analysis.rows import HANDED_OVER, rows
from bench.analysis.series import measured
from bench.report import tables
from bench.report.figures import figures_of, proofs_of
from bench.report.write_up import write_up
from defenses import DEFENSES, Certified, Training, defense

BEFORE = {"clean_accuracy_before": 0.99, "asr_before": 0.9, "ra_before": 0.1}
REPAIRED = {"clean_accuracy": 0.95, "asr": 0.2, "ra": 0.7, "der": 0.83}
PROVEN = {"certified_accuracy": 0.8, "certified_at_poison": 0.3, "abstained": 0.05}


@pytest.fixture
def record(make_record):
    """Records with two defenses of the training kinds among those that are known."""
    with DEFENSES.temporary():

        @defense("plainly", source="this test")
        class Plainly(Training):
            sees = frozenset({"suspect"})

        @defense("votes", source="this test")
        class Votes(Certified):
            pass

        @defense("cautious", source="this test")
        class Cautious(Training):
            sees = frozenset({"clean"})

        yield make_record


def test_trainings_have_a_table_of_their_own_beside_the_plain_training(record):
    found = rows(measured([record("pixel", "plainly", **BEFORE, **REPAIRED)]), "training")
    text = tables.markdown(found)
    assert [row["asr"].mean for row in found] == [0.2]
    assert "ASR before (%)" in text
    assert "certified" not in text
    assert rows(measured([record("pixel", "plainly", **REPAIRED)]), "repair") == []


def test_a_proof_stands_beside_the_figures_that_are_measured(record):
    one = record("pixel", "votes", **BEFORE, **REPAIRED, **PROVEN)
    text = tables.markdown(rows(measured([one]), "training"))
    assert "certified accuracy (%)" in text
    assert measured([one]).series[0].flavour == "certified"


@pytest.mark.parametrize(
    ("attack", "by", "told"),
    [
        ("pixel", "plainly", ""),
        ("patch", "plainly", HANDED_OVER),
        ("patch", "cautious", ""),
        ("none", "plainly", ""),
    ],
)
def test_where_the_attacker_had_the_loop_a_training_says_what_it_trained_on(
    record, attack, by, told
):
    (row,) = rows(measured([record(attack, by, **BEFORE, **REPAIRED)]), "training")
    assert row["trained_on"] == told
    assert ("trained on" in tables.markdown([row])) == bool(told)


def test_tables_show_what_each_defense_sees(record):
    some = [record("pixel", "plainly", **BEFORE, **REPAIRED)]
    assert [row["sees"] for row in rows(measured(some), "training")] == ["suspect"]
    detected = [record("pixel", "activation_clustering", f1=0.9)]
    assert [row["sees"] for row in rows(measured(detected), "detection")] == [
        "model, clean, suspect"
    ]


def test_covers_are_shown_apart_from_poison(record):
    one = record("wanet", asr=0.9, cover_accuracy=0.98, poison={"covers": 6})
    (row,) = rows(measured([one]), "attack")
    assert row["poisoned"] == "3 + covers 6"
    assert "cover accuracy (%)" in tables.markdown([row])
    (row,) = rows(measured([record("wanet", "strip", covers_flagged=0.25)]), "detection")
    assert row["covers_flagged"].mean == 0.25


def test_several_triggers_and_stealth_in_training_stand_in_the_attacks_row(record):
    one = record("pixel", asr=0.9, asr_worst=0.7, leak=0.02, psnr=30.0, psnr_train=28.0)
    text = tables.markdown(rows(measured([one]), "attack"))
    for heading in ("ASR, worst trigger (%)", "leak (%)", "PSNR, training (dB)"):
        assert heading in text


def test_trainings_are_ranked_and_drawn_apart_from_repairs(record):
    some = [
        record("pixel", asr=0.9),
        record("pixel", "fine_pruning", **BEFORE, **REPAIRED),
        record("pixel", "plainly", **BEFORE, **{**REPAIRED, "der": 0.7, "asr": 0.4}),
        record("pixel", "votes", **BEFORE, **REPAIRED, **PROVEN),
    ]
    found = measured(some)
    by_title = {table.title: table for table in rankings(found)}
    (training,) = by_title["Trainings on data that is not trusted"].rows
    assert training["defense"].text == "plainly"
    (proof,) = by_title["Trainings with a proof"].rows
    assert proof["certified accuracy (%), mean"].text == "80.00"
    (attack,) = by_title["Attacks"].rows
    assert attack[LEFT_IN_TRAINING].text == "40.00 (plainly)"
    titles = [table.title for table in heat_maps(found)]
    assert titles == [
        "ASR after repair (%)",
        "ASR after training (%)",
        "certified against the poison (%)",
    ]
    assert {"training-plainly", "training-votes", "repair-fine_pruning"} <= set(figures_of(found))


def test_without_a_training_the_ranking_of_attacks_has_no_column_for_it(record):
    (table,) = rankings(measured([record("pixel", asr=0.9)]))
    assert LEFT_IN_TRAINING not in table.rows[0]


@pytest.fixture
def report(tmp_path):
    def write(*records):
        return write_up(measured(records), tmp_path).report.read_text()

    return write


def test_the_report_has_a_part_for_trainings(record, report):
    text = report(record("pixel", asr=0.9), record("pixel", "plainly", **BEFORE, **REPAIRED))
    assert "## Training\n\n### plainly" in text
    assert "Level None" not in text


def test_the_report_says_how_large_each_split_is_and_what_stands_in_two(record, report):
    one = record(asr=0.9)
    one.data = {"train": 1298, "clean": 70, "validation": 71, "test": 359, "duplicates": 2}
    assert (
        "digits: 1,298 training images, 70 for the defender, 71 for choices, 359 to test; "
        "images that stand, pixel for pixel, in two of these: 2." in report(one)
    )


def test_targets_that_differ_by_seed_are_told(record, report):
    same = [record(seed=seed, asr=0.9, poison={"target": 4}) for seed in (0, 1)]
    assert "3 of 100 training samples poisoned, towards class 4;" in report(*same)
    other = record(seed=2, asr=0.9, poison={"target": 7, "poisoned_samples": 5, "covers": 2})
    assert (
        "3 to 5 of 100 training samples poisoned, 2 covers, towards another class for every seed;"
        in report(*same, other)
    )


def test_another_recipe_or_data_set_is_another_study(record):
    plain = record(asr=0.9)
    cell = dataclasses.replace(
        plain.cell, recipe="sgd", recipe_params={"epochs": 3}, dataset_params={"name": "birds"}
    )
    found = measured([plain, dataclasses.replace(plain, cell=cell)])
    assert [series.study for series in found.series] == [
        ("digits", "simplecnn"),
        ("digits name=birds", "simplecnn @sgd epochs=3"),
    ]


def test_a_proof_is_drawn_with_any_number_of_parts(record):
    curve = [{"radius": 3, "accuracy": 0.9}, {"radius": 40, "accuracy": 0.5}]
    some = [record("pixel", asr=0.9)]
    for attack, params in (("none", {}), ("pixel", {}), ("pixel", {"parts": 9})):
        one = record(attack, "votes", **BEFORE, **REPAIRED, **PROVEN)
        one.cell = dataclasses.replace(one.cell, defense_params=params)
        one.details = {
            "certificate": {
                **{"unit": "modification", "alpha": 0.0, "curve": curve},
                "changes_of_the_attack": 20 if attack != "none" else 0,
            }
        }
        some.append(one)
    drawing = proofs_of(measured(some))["proofs"]()
    (panel,) = drawing.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert lines["votes"] == [[0, 90], [3, 90], [40, 50], [40, 0]]
    assert "votes parts=9" in lines
    assert [20.0, 100 * some[2].metrics["ra"]] in [
        line.get_xydata()[0].tolist() for line in panel.lines if len(line.get_xydata())
    ]


def test_a_proof_without_details_is_not_drawn_anew(record):
    some = [record("pixel", asr=0.9), record("pixel", "votes", **BEFORE, **REPAIRED, **PROVEN)]
    assert proofs_of(measured(some)) == {"proofs": None}
    assert proofs_of(measured(some[:1])) == {}
