"""A cell may be judged on validation images: for choices, and for nothing that is told."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from bench import Cell, run
from bench.analysis.accepted import accepted
from bench.analysis.series import measured
from bench.analysis.trials import counted
from bench.harness.ids import cell_of
from bench.measure import resolve
from bench.report.write_up import write_up
from bench.runtime.workspace import Workspace
from bench.store import records
from bench.store.collect import add, of_run
from bench.victims.provide import victim
from fixtures.errors import BenchError

CELL = Cell(
    "tiny", attack="pixel", defense="fine_tuning", recipe="adamw",
    recipe_params={"epochs": 2, "min_steps": 60},
    defense_params={"epochs": 1, "min_steps": 5},
)  # fmt: skip
HELD = dataclasses.replace(CELL, split="validation")


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A cache that these tests share."""
    return Workspace(cache=tmp_path_factory.mktemp("validation"), device="cpu")


def test_the_id_and_the_identity_say_that_a_cell_is_judged_on_validation_images(at):
    told, held = resolve(CELL, at), resolve(HELD, at)
    assert HELD.id == CELL.id.replace("-s0", "-validation-s0")
    assert held.key != told.key
    assert held.identity["asked"] == told.identity["asked"] | {"split": "validation"}
    assert held.victim == told.victim


def test_no_test_of_the_benchmark_is_of_a_cell_that_is_judged_on_validation_images():
    plain = Cell("digits", attack="pixel", defense="fine_tuning")
    assert cell_of(plain.id) == plain
    assert cell_of(dataclasses.replace(plain, split="validation").id) is None


@pytest.mark.parametrize("split", ["train", "clean", ""])
def test_a_cell_is_judged_on_images_that_nothing_was_learned_from(split):
    with pytest.raises(BenchError, match=f"split {split!r}: a cell is judged on test or validat"):
        dataclasses.replace(CELL, split=split)


def test_a_victim_judged_on_validation_images_shares_all_but_what_is_made_of_test_images(at):
    whole = victim(CELL, at)
    held = whole.judged_on("validation")
    everything = torch.arange(len(held.dataset.test))
    assert torch.equal(
        held.dataset.test.bytes(everything), whole.dataset.validation.bytes(everything)
    )
    assert len(held.triggered()) == len(held.covered()) == len(whole.dataset.validation)
    assert len(whole.triggered()) == len(whole.covered()) == len(whole.dataset.test)
    assert held.model is whole.model
    assert held.suspect is whole.suspect
    assert whole.judged_on("test") is whole
    assert whole.judged_on("validation") is held
    with pytest.raises(ValueError, match="has no test images"):
        held.judged_on("test")


def test_images_in_files_tell_the_splits_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.victims.provide.IN_MEMORY", 0)
    attacked = victim(CELL, Workspace(cache=tmp_path, device="cpu"))
    held = attacked.judged_on("validation")
    for one, name in ((attacked, ".triggered0"), (held, ".validation-triggered0")):
        assert len(one.triggered()) == len(one.dataset.test)
        assert one.path.with_suffix(name).exists()


def test_figures_are_of_validation_images_and_the_splits_are_counted_as_they_are(at):
    told, held = run(CELL, at), run(HELD, at)
    assert held.data == told.data
    triggered = held.poison.pop("triggered"), told.poison.pop("triggered")
    assert held.poison == told.poison
    assert triggered[0] < triggered[1]
    images = held.data["validation"]
    assert counted(held, "repair")["test"] == images
    correct = held.metrics["clean_accuracy"] * images
    assert images != held.data["test"]
    assert correct == pytest.approx(round(correct))


def test_a_record_on_validation_images_stands_in_no_table_and_no_baseline(at, tmp_path):
    told, held = run(CELL, at), run(HELD, at)
    assert measured([told, held]).records == [told]
    assert measured([told, held], "validation").records == [held]
    assert accepted(measured([held])) == {}
    write_up(measured([told, held]), tmp_path)
    pages = [page.read_text() for page in tmp_path.glob("*.*") if page.suffix in (".md", ".csv")]
    assert pages
    assert not any(held.cell.name in page for page in pages)


def test_a_record_keeps_its_split_in_both_forms(at, tmp_path):
    for cell in (CELL, HELD):
        run(cell, at).save(records.path_of(cell, tmp_path))
    add(of_run(tmp_path), tmp_path)
    assert {record.cell for record in records.load_all(tmp_path)} == {CELL, HELD}


def test_an_older_record_was_judged_on_test_images(at, tmp_path):
    record = run(CELL, at)
    path = record.save(tmp_path / "record.json")
    content = json.loads(path.read_text())
    del content["cell"]["split"], content["sha256"]
    content["sha256"] = records.checksum(content)
    path.write_text(json.dumps(content))
    assert records.load(path).cell == CELL
