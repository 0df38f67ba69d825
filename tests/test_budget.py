"""The clean budget: an axis of the cross, part of what a cell is."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench.__main__ import main
from bench.harness import budgets
from bench.harness.ids import cell_of
from bench.measure import resolve
from bench.spec import budget, defaults
from bench.spec.cell import Cell, cross
from bench.store import records
from bench.victims import victim
from fixtures import datasets
from fixtures.errors import BenchError

CELL = Cell("digits", attack="pixel", defense="fine_pruning")


def asking(clean, **changes):
    return dataclasses.replace(CELL, clean=clean, **changes)


@pytest.mark.parametrize(("clean", "part"), [(10, "-c10"), ("all", "-c_all"), (None, "")])
def test_a_budget_stands_in_the_id_behind_the_defense(clean, part):
    cell = asking(clean)
    assert cell.id == f"digits-simplecnn-pixel-fine_pruning{part}-s0"
    assert cell_of(cell.id) == cell


@pytest.mark.parametrize("clean", [0, -1, 2.5, True, "some"])
def test_what_is_no_budget_is_one_line(clean):
    with pytest.raises(BenchError, match=r"^clean = .* is no number of images from 1, nor 'all'$"):
        asking(clean)


def test_a_cell_without_a_defense_has_no_budget():
    with pytest.raises(BenchError, match="there is no defense to be given the images"):
        asking(10, defense="none")
    assert asking(10).undefended.clean is None


def test_a_cell_that_asks_for_the_default_is_the_same_measurement(workspace, monkeypatch):
    monkeypatch.setattr(defaults, "clean", lambda _dataset: 5)
    default, same, other, everything = (
        resolve(asking(clean), workspace) for clean in (None, 5, 3, "all")
    )
    assert default.key == same.key
    assert len({default.key, other.key, everything.key}) == 3
    assert [job.identity["asked"]["clean"] for job in (same, other, everything)] == [5, 3, None]
    assert default.victim.key == other.victim.key == everything.victim.key


def test_a_defender_gets_the_budget_and_more_images_hold_the_fewer(workspace):
    attacked = victim(Cell("tiny", attack="pixel"), workspace)
    few, more, everything = (attacked.clean(budget) for budget in (1, 2, None))
    assert few.labels.bincount().tolist() == [1] * len(attacked.dataset.classes)
    assert len(few) < len(more) <= len(everything) == len(attacked.dataset.clean)
    held = {image.numpy().tobytes() for image in more.images}
    assert all(image.numpy().tobytes() in held for image in few.images)
    assert torch.equal(attacked.view(0, {"clean"}, 1).clean.images, few.images)


def test_every_budget_is_a_cell_and_the_default_stands_for_itself(monkeypatch):
    monkeypatch.setattr(defaults, "clean", lambda _dataset: 50)
    attacks, defenses = ["none", "pixel"], ["none", "fine_pruning"]
    cells = cross(["digits"], ["simplecnn"], attacks, defenses, [0], budgets=[10, 50, "all"])
    assert [cell.clean for cell in cells if cell.defense == "none"] == [None, None]
    assert [cell.clean for cell in cells if cell.defense != "none"] == [10, None, "all"] * 2


def test_a_defense_that_sees_no_clean_image_has_one_cell_whatever_is_asked():
    cells = cross(["digits"], ["simplecnn"], ["pixel"], ["largest_class"], [0], budgets=[1, 2])
    assert [cell.clean for cell in cells] == [None]


def test_an_attacks_own_figures_owe_nothing_to_the_budget(workspace, monkeypatch):
    before = resolve(CELL.undefended, workspace).key
    monkeypatch.setattr(defaults, "clean", lambda _dataset: 5)
    assert resolve(CELL.undefended, workspace).key == before


def test_a_record_keeps_its_budget_and_an_old_one_has_the_default(make_record, tmp_path):
    asked, plain = make_record("pixel", "fine_pruning", clean=10), make_record("pixel", "anp")
    assert records.load(asked.save(tmp_path / "one.json")).cell.clean == 10
    lines = tmp_path / "records.jsonl"
    lines.write_text(f"{asked.line()}\n{plain.line()}\n")
    assert [record.cell.clean for record in records.load_lines(lines)] == [10, None]
    assert '"cell":{}' in plain.line()


@pytest.mark.parametrize(
    ("text", "found"), [(None, []), ("10", [10]), ("10, 250,all", [10, 250, "all"])]
)
def test_budgets_are_read_from_the_command_line(text, found):
    assert budgets.parse(text) == found


@pytest.mark.parametrize("text", ["", "0", "-5", "2.5", "10,10", "10,010", "some", "10,", "All"])
def test_other_budgets_are_one_line(text):
    with pytest.raises(BenchError, match=r"^--clean: .* is not a list of different numbers of im"):
        budgets.parse(text)


def test_a_run_says_which_class_has_fewest_images(bench, tmp_path):
    asked = ("--attack=none", "--defense=from_scratch+min_steps=2", "--clean=1,1000")
    found = bench(*asked, dataset="tiny")
    found.assert_outcomes(passed=2)
    sizes = datasets.load("tiny").clean.labels.bincount()
    (note,) = [line for line in found.outlines if "--clean 1000" in line]
    assert note.endswith(f"{int(sizes.min())}")
    held = {path.stem: records.load(path) for path in (tmp_path / "results/records").glob("*")}
    few, many = (
        held[f"tiny-simplecnn-none-from_scratch+min_steps=2-{c}-s0"] for c in ("c1", "c1000")
    )
    assert few.data["clean"] == len(sizes)
    assert many.data["clean"] == int(sizes.sum())


def test_nothing_is_said_where_every_class_has_enough():
    tiny = datasets.load("tiny")
    least = int(tiny.clean.labels.bincount().min())
    assert budgets.shortfall(tiny, [least, "all"]) == ""
    assert budgets.shortfall(tiny, [least + 1]) != ""


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        ({10: 0.857, 25: 0.936, 50: 0.958, 100: 0.971, 250: 0.983}, 50),
        ({10: 0.857, 25: 0.961}, 25),
        ({10: 0.9, 25: 0.95, 50: 0.9}, 50),
        ({10: 0.962, 25: 0.98}, None),
        ({}, None),
    ],
    ids=["largest", "three points exactly", "not in order", "none qualifies", "none to try"],
)
def test_the_default_is_the_largest_budget_at_which_the_victim_is_worth_repairing(fresh, expected):
    assert budget.default(0.991, fresh) == expected


def test_a_budget_that_no_class_can_fill_is_not_tried():
    assert budget.available([60, 30, 7]) == [10, 25, 50]
    assert budget.available([7, 7]) == []


def test_a_data_sets_default_follows_from_a_measurement(monkeypatch, make_record, capsys):
    reached, asked = {1: 0.8, 2: 0.9, "all": 0.98}, []

    def run(cell, _workspace):
        asked.append(cell)
        better = 0.01 * (cell.seed - 102)  # which the mean over the seeds does not show
        figures = {"clean_accuracy": reached[cell.clean] + better, "clean_accuracy_before": 0.99}
        return make_record("none", cell.defense, **figures)

    monkeypatch.setattr("bench.measure.run", run)
    monkeypatch.setattr(budget, "BUDGETS", (1, 2, 999))
    assert main(["budgets", "tiny"]) == 0
    table, _, said = capsys.readouterr().out.partition("\n\n")
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert lines[2:] == [
        ["1", "80.00", "99.00", "19.00"],
        ["2", "90.00", "99.00", "9.00"],
        ["all", "98.00", "99.00", "1.00"],
    ]
    assert "on validation images, seeds 101, 102, 103." in said
    assert "Default: 2, the largest" in said
    assert {(cell.defense, cell.attack, cell.split) for cell in asked} == {
        ("from_scratch", "none", "validation")
    }
    assert len(asked) == len(set(asked)) == 9


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["digitz"], "error: unknown data set 'digitz' (did you mean digits?)"),
        (["digits+size"], "error: 'size' is not name=value"),
        (["digits", "--model", "simplecnm"], "error: unknown model 'simplecnm'"),
    ],
)
def test_a_wrong_question_about_budgets_is_one_line(arguments, complaint, capsys):
    assert main(["budgets", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(complaint)
