from __future__ import annotations

import csv
import io
import re

import pytest

from bench import Cell
from bench.analysis.completeness import complete
from bench.analysis.provenance import seeds_of
from bench.analysis.rows import rows
from bench.analysis.series import measured, mixed
from bench.analysis.squares import show
from bench.report import figures, tables
from bench.report.write_up import write_up


@pytest.fixture
def record(make_record):
    return make_record


def rows_of(records, kind="attack"):
    return rows(measured(records), kind)


def markdown(records, kind="attack"):
    return tables.markdown(rows_of(records, kind))


def test_one_seed_that_nobody_counted_pretends_no_interval(record):
    text = markdown([record(asr=0.9)])
    assert "90.00" in text
    assert "±" not in text
    assert " to " not in text


def test_one_seed_has_the_interval_of_its_images(record):
    counted = {"poison": {"triggered": 100}, "data": {"test": 110}}
    row = next(iter(rows_of([record(asr=0.9, **counted)])))
    assert show("asr", row["asr"]) == "90.00 (82.38 to 95.10)"


def test_seeds_of_a_cell_share_a_row_and_cells_do_not(record):
    some = [record(seed=s, asr=a) for s, a in ((0, 0.9), (1, 1.0))] + [record("noise", asr=0.5)]
    found = rows_of(some)
    assert [(row["attack"], row["seeds"]) for row in found] == [("pixel", 2), ("noise", 1)]
    assert found[0]["asr"].mean == pytest.approx(0.95)


def test_records_of_different_identity_never_share_a_row(record):
    some = [
        record(seed=0, asr=0.9),
        record(seed=1, asr=0.9),
        record(seed=0, asr=0.1, code="2"),
    ]
    found = rows_of(some)
    assert [(row["seeds"], row["asr"].mean) for row in found] == [(2, 0.9), (1, 0.1)]
    assert mixed(measured(some).series) == {"digits-simplecnn-pixel": ["code of attack"]}
    text = markdown(some)
    assert "identity" in text
    assert len(set(re.findall(r"\b[0-9a-f]{8}\b", text))) == 2
    assert "identity" not in markdown(some[:2])


def test_the_same_record_from_two_folders_counts_once(record):
    (row,) = rows_of([record(asr=0.9), record(asr=0.9)])
    assert row["seeds"] == 1
    assert row["asr"].n == 1


def test_what_is_drawn_is_of_the_identity_with_most_seeds(record):
    old = [record(seed=seed, asr=0.9) for seed in range(3)]
    new = [record(seed=0, asr=0.1, code="2")]
    assert measured(new + old).of_one_identity.records == old


@pytest.mark.parametrize(
    ("rates", "shown"), [((0.0, 0.02), "1.00 (0.00 to 79.74)"), ((0.5,), "50.00 ± 10.33")]
)
def test_the_false_positive_rate_on_clean_models_is_a_column(record, rates, shown):
    def detected(attack, seed, **metrics):
        return record(attack, "activation_clustering", seed, false_labels=0.0, **metrics)

    some = [detected("pixel", 0, f1=0.9, fpr=0.125)]
    some += [detected("none", seed, fpr=rate) for seed, rate in enumerate(rates)]
    stranger = record("none", "fine_pruning", 0, fpr=1.0)
    stranger.kind = "detection"
    rewritten = detected("none", 0, fpr=1.0)
    rewritten.identity["code"]["defense"] = "another version"
    strangers = [stranger, rewritten]
    row = next(r for r in rows_of([*some, *strangers], "detection") if r["attack"] == "pixel")
    assert show("fpr_clean_model", row["fpr_clean_model"]) == shown
    assert "FPR, clean model (%)" in markdown(some, "detection")


def test_a_table_says_how_many_cells_it_lacks(record):
    some = [
        record(attack, "fine_pruning", seed) for attack in ("pixel", "noise") for seed in (0, 1)
    ]
    assert complete(measured(some), "repair") == "Repair: 4 of 4 cells, none lacking."
    assert complete(measured(some[:3]), "repair") == (
        "Repair: 3 of 4 cells; 1 lacking: digits-simplecnn-noise-fine_pruning-s1."
    )
    asked = [some[0].cell, Cell("digits", attack="blur", defense="fine_pruning")]
    assert "digits-simplecnn-blur-fine_pruning-s0" in complete(measured(some), "repair", asked)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([0], "0"),
        ([1, 0], "0, 1"),
        ([0, 1, 2], "0 to 2"),
        ([0, 4, 7], "0, 4, 7"),
        ([3, 5, 4], "3 to 5"),
    ],
)
def test_seeds_are_told_as_people_say_them(record, seeds, text):
    assert seeds_of([record(seed=seed) for seed in seeds]) == text


def test_csv_holds_plain_numbers(record):
    text = tables.csv(rows_of([record(seed=s, asr=a) for s, a in ((0, 0.9), (1, 1.0))]))
    (row,) = csv.DictReader(io.StringIO(text))
    assert float(row["asr"]) == pytest.approx(0.95)
    assert 0 <= float(row["asr_low"]) < 0.95 < float(row["asr_high"]) <= 1
    assert row["attack"] == "pixel"


def test_a_write_up_without_repairs_has_no_repair_table(tmp_path, record):
    written = write_up(measured([record(asr=0.9, clean_accuracy=0.97)]), tmp_path)
    assert [path.name for path in written.tables] == [
        "attacks.md",
        "attacks.csv",
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.html",
    ]
    report = written.report.read_text()
    assert "## Level 1: pixel" in report
    assert "**Claimed.** The study says: clean accuracy / ASR 99 % / 95 %." in report
    assert "ASR 90.00 %" in report
    assert "Made by `pytest bench`" in report


def test_figures_are_drawn_from_real_records(workspace, tmp_path):
    from bench import run

    made = [
        run(Cell("tiny", attack=attack, defense=defense), workspace)
        for attack in ("pixel", "patch")
        for defense in ("none", "activation_clustering", "fine_pruning")
    ]
    drawn = figures.draw_all(measured(made), tmp_path)
    assert {name: [p.name for p in paths] for name, paths in drawn.items()} == {
        "gallery": ["tiny-simplecnn-gallery.png"],
        "trigger-pixel": ["tiny-simplecnn-trigger-pixel.png"],
        "trigger-patch": ["tiny-simplecnn-trigger-patch.png"],
        "scatter": ["tiny-simplecnn-scatter-activation_clustering.png"],
        "heat": ["tiny-simplecnn-heat.png"],
        "repair": ["tiny-simplecnn-repair-fine_pruning.png"],
        "trajectory": ["tiny-simplecnn-trajectory-fine_pruning.png"],
    }
    for paths in drawn.values():
        assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_pictures_of_records_without_details_are_those_that_were_drawn_with_them(record, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    for name in ("gallery", "trigger-pixel", "trigger-noise", "scatter-activation_clustering"):
        (there / f"digits-simplecnn-{name}.png").write_bytes(name.encode())
    some = measured(
        [
            record("pixel", asr=0.9, changed=0.1),
            record("pixel", "activation_clustering", f1=0.9, false_labels=0.0),
        ]
    )
    drawn = figures.draw_all(some, here, there)
    assert {topic for topic in drawn if topic != "heat"} == {"gallery", "trigger-pixel", "scatter"}
    assert (here / "digits-simplecnn-trigger-pixel.png").read_bytes() == b"trigger-pixel"
    assert not (here / "digits-simplecnn-trigger-noise.png").exists(), "no record is of it"
    assert set(figures.draw_all(some, there)) == set(drawn), "and where they lie they stay"


def test_bars_are_drawn_of_as_many_attacks_as_can_be_read(record):
    def drawn(count):
        before = {"asr_before": 0.9, "clean_accuracy_before": 0.9}
        some = [
            record(f"attack{number}", "fine_pruning", asr=0.1, clean_accuracy=0.9, **before)
            for number in range(count)
        ]
        return figures.figures_of(measured(some))

    assert "repair-fine_pruning" in drawn(figures.MOST_BARS)
    assert "repair-fine_pruning" not in drawn(figures.MOST_BARS + 1)


def test_nothing_measured_has_no_rows():
    assert rows_of([]) == []
    assert markdown([]) == ""
