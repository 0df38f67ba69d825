"""The clean budget: an axis of the cross, part of what a cell is."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench.harness.ids import cell_of
from bench.measure import resolve
from bench.spec import defaults
from bench.spec.cell import Cell, cross
from bench.store import records
from bench.victims import victim
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


def test_a_record_keeps_its_budget_and_an_old_one_has_the_default(make_record, tmp_path):
    asked, plain = make_record("pixel", "fine_pruning", clean=10), make_record("pixel", "anp")
    assert records.load(asked.save(tmp_path / "one.json")).cell.clean == 10
    lines = tmp_path / "records.jsonl"
    lines.write_text(f"{asked.line()}\n{plain.line()}\n")
    assert [record.cell.clean for record in records.load_lines(lines)] == [10, None]
    assert '"cell":{}' in plain.line()
