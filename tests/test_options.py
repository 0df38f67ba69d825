"""Data sets, models and recipes with parameters on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bench.harness import selection
from bench.harness.selection import Axes
from defenses import DEFENSES, Training, defense
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError
from fixtures.models import MODELS

ALONE = ("--attack=none", "--defense=none")


@pytest.fixture
def pictures(tmp_path):
    """A folder of 16x16 pictures of two classes that any network tells apart."""

    def make(name, seed=0):
        random = np.random.default_rng(seed)
        for split, count in (("train", 40), ("test", 10)):
            for label in ("dark", "light"):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(0, 90, (16, 16, 3)) + 160 * (label == "light")
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        return tmp_path / name

    return make


def only_line(result):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    return line


def test_a_folder_of_pictures_is_a_data_set(bench, pictures, tmp_path):
    path = pictures("a=b+c")
    recipe = "--recipe=adamw+min_steps=20"
    result = bench(*ALONE, recipe, dataset=f"folder+name=two+path={path}")
    result.assert_outcomes(passed=1)
    (record,) = (tmp_path / "results" / "records").glob("*.json")
    assert record.stem == "folder+name=two-simplecnn@adamw+min_steps=20-none-s0"
    content = json.loads(record.read_text())
    assert content["identity"]["asked"]["recipe"] == {"min_steps": 20}
    assert content["data"] == {
        **{"train": 72, "clean": 4, "validation": 4, "test": 20},
        "duplicates": 0,
        "values": 3 * 16 * 16,
    }
    assert str(path) not in json.dumps({**content, "command": ""})
    report = (tmp_path / "results" / "report.md").read_text()
    assert "folder name=two / simplecnn @adamw min_steps=20" in report
    assert "72 training images, 4 for the defender, 4 for choices, 20 to test" in report


def test_a_folder_that_is_not_there_is_one_line_before_anything_runs(bench, tmp_path):
    line = only_line(bench(*ALONE, dataset=f"folder+path={tmp_path / 'nowhere'}"))
    assert line.startswith("ERROR: data set 'folder'")
    assert "nowhere" in line


def test_two_folders_under_one_name_are_one_line_that_asks_for_names(bench, pictures):
    here, there = pictures("here"), pictures("there", seed=1)
    line = only_line(bench(*ALONE, dataset=f"folder+path={here},folder+path={there}"))
    assert line.startswith(f"ERROR: --dataset: {here} and {there} are both called 'folder'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe=sdg"], "--recipe: unknown recipe 'sdg' (did you mean sgd?); known: adamw, "),
        (
            ["--recipe=sgd+epohs=3"],
            "--recipe: recipe 'sgd' has no field 'epohs' (did you mean epochs?); known: batch_size",
        ),
        (["--recipe=sgd+epochs=x"], "--recipe: recipe 'sgd': epochs is a whole number"),
        (["--recipe=sgd+optimizer=lion"], "--recipe: recipe 'sgd': optimizer is one of adamw, sgd"),
        (["--recipe=sgd+epochs"], "--recipe: 'epochs' is not name=value"),
        (["--model=simplecnn+hiden=3"], "--model: 'simplecnn+hiden=3': got an unexpected keyword"),
        (["--model=simplecnn+hidden"], "--model: 'simplecnn+hidden': 'hidden' is not name=value"),
        (["--dataset=digits+size=3"], "--dataset: 'digits+size=3': got an unexpected keyword"),
        (["--dataset=auto+size=3"], "--dataset: 'auto' takes no parameters, got 'auto+size=3'"),
        (["--dataset=folder"], "data set 'folder' needs a path: folder+path="),
        (["--defense=@training,@proof"], "--defense: '@proof' is no kind: @detection, @repair, @t"),
    ],
)
def test_a_wrong_parameter_is_one_line(bench, arguments, message):
    assert only_line(bench(*arguments)).startswith(f"ERROR: {message}")


def test_a_glob_leaves_out_what_needs_a_path():
    names = selection.matching("--dataset", "*", DATASETS)
    assert "digits" in names
    assert "folder" not in names
    assert selection.matching("--dataset", "fold*+path=/x", DATASETS) == ["folder+path=/x"]


def test_the_recipe_is_in_every_cell_of_the_run():
    axes = Axes(("digits",), ("simplecnn+hidden=64",), (0,), recipe="sgd+epochs=3")
    ids = {cell.id for cell in selection.chosen(axes, attack="pixel", defense="none,anp")}
    assert ids == {
        "digits-simplecnn+hidden=64@sgd+epochs=3-pixel-s0",
        "digits-simplecnn+hidden=64@sgd+epochs=3-pixel-anp-s0",
    }


def test_no_recipe_is_the_default():
    assert selection.recipe_of(None) == ""
    assert selection.recipe_of("adamw+peak_lr=0.01") == "adamw+peak_lr=0.01"
    with pytest.raises(BenchError, match=r"^--recipe: "):
        selection.recipe_of("adamw+peak_lr=0")


def test_models_take_parameters_that_globs_share():
    assert selection.matching("--model", "simple*+hidden=8", MODELS) == ["simplecnn+hidden=8"]


def test_suites_select_trainings():
    with DEFENSES.temporary():

        @defense("plainly", source="this test")
        class Plainly(Training):
            pass

        trainings = selection.defenses("ours", ["@training"])
        assert "plainly" in trainings
        cells = selection.chosen(Axes(("digits",), ("simplecnn",), (0,)), suite="training")
        assert {(cell.defense, cell.kind) for cell in cells} == {
            ("none", "attack"),
            *((name, "training") for name in trainings),
        }
