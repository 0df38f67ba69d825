"""Backdoors as plain files: written, read back, and refused where they were changed."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from attacks import ATTACKS
from bench import Cell
from bench.__main__ import main
from bench.auditing.exporting import export
from bench.auditing.weights import checkpoint
from bench.commands.export import named
from bench.measure import run
from bench.spec.identity import differences
from bench.victims import victim
from fixtures import exchange
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError, DataError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("FutureWarning", "DeprecationWarning")
]

CELLS = {
    "pixel": Cell("tiny", attack="pixel"),
    "all2all": Cell("tiny", attack="pixel", attack_params={"mapping": "all2all"}),
    "patch": Cell("tiny", attack="patch"),
    "covers": Cell("tiny", attack="adaptive_patch"),
}


@pytest.fixture(scope="module")
def exported(workspace, tmp_path_factory):
    folders = {}

    def written(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("exported") / name
            export(CELLS[name], folders[name], workspace)
        return folders[name]

    return written


def read_back(folder, **changes):
    return dataclasses.replace(
        Cell("tiny", attack="imported", attack_params={"path": str(folder)}), **changes
    )


@pytest.mark.parametrize("name", CELLS)
def test_what_is_read_back_is_the_same_cell(name, exported, workspace):
    before, after = CELLS[name], read_back(exported(name))
    ours, theirs = victim(before, workspace), victim(after, workspace)
    assert torch.equal(ours.roles, theirs.roles)
    assert torch.equal(ours.suspect.digests(), theirs.suspect.digests())
    assert torch.equal(ours.suspect.labels, theirs.suspect.labels)
    assert torch.equal(ours.triggered().digests(), theirs.triggered().digests())
    own = ours.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.model.state_dict().items())
    first, second = run(before, workspace).metrics, run(after, workspace).metrics
    shared = first.keys() & second.keys()
    assert {"clean_accuracy", "asr", "survives_jpeg", "linf"} <= shared
    assert {key: first[key] for key in shared} == {key: second[key] for key in shared}


def test_a_detection_of_what_is_read_back_is_the_same(exported, workspace):
    before = dataclasses.replace(CELLS["pixel"], defense="activation_clustering")
    after = read_back(exported("pixel"), defense="activation_clustering")
    assert run(before, workspace).metrics == run(after, workspace).metrics


def test_on_validation_images_it_has_a_trigger_too(exported, workspace):
    cell = read_back(exported("pixel"), defense="fine_tuning", split="validation")
    assert run(cell, workspace).metrics["asr_before"] > 0.9


def test_the_folder_is_a_training_set_by_class_with_labels_and_roles(exported, workspace):
    folder, made = exported("pixel"), victim(CELLS["pixel"], workspace)
    with (folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.dataset.train)
    assert [row["role"] for row in rows].count("poison") == int(made.roles.sum())
    poisoned = next(row for row in rows if row["role"] == "poison")
    assert int(poisoned["label"]) == made.attack.target != int(poisoned["published_label"])
    seen = torch.from_numpy(
        __import__("numpy").asarray(Image.open(folder / poisoned["file"])).copy()
    )
    assert torch.equal(seen, made.received.bytes(torch.tensor([int(poisoned["index"])]))[0, 0])
    assert set(load_file(folder / "victim.safetensors")) == set(made.model.state_dict())
    assert (folder / "victim.onnx").stat().st_size > 1000
    card = (folder / "README.md").read_text()
    assert "backdoored, for research on defenses" in card
    assert f"{int(made.roles.sum())} poison" in card


def test_the_folder_holds_images_for_an_audit(exported):
    from bench.auditing.images import clean, suspect

    data = clean(exported("pixel") / "test")
    assert len(data.classes) == 4
    assert len(suspect(exported("pixel") / "train", data.classes)) > 100


def test_another_folder_with_the_same_content_is_the_same_run(exported, workspace, tmp_path):
    shutil.copytree(exported("pixel"), tmp_path / "copy")
    ours = run(read_back(exported("pixel")), workspace).identity
    theirs = run(read_back(tmp_path / "copy"), workspace).identity
    assert ours == theirs
    with (tmp_path / "copy/train.csv").open("a") as file:
        file.write("\n")
    changed = exchange.contents(tmp_path / "copy")
    assert changed != exchange.contents(exported("pixel"))
    assert not differences(ours, theirs)


def test_an_image_that_was_changed_is_named(exported, workspace, tmp_path):
    shutil.copytree(exported("pixel"), tmp_path / "copy")
    rows = list(exchange.rows(tmp_path / "copy", exchange.TRAIN, exchange.TRAIN_COLUMNS))
    poisoned = next(row for row in rows if row["role"] == "poison")
    Image.new("L", (12, 12)).save(tmp_path / "copy" / poisoned["file"])
    attack = ATTACKS.create(
        "imported", path=str(tmp_path / "copy"), shape=(1, 12, 12), num_classes=4
    )
    index = torch.tensor([int(poisoned["index"])])
    with pytest.raises(DataError, match=f"{poisoned['file']}: its pixels are not those"):
        attack.stamp(torch.zeros(1, 1, 12, 12), index, index, index, torch.Generator())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cell.json", None, "cell.json: No such file"),
        ("cell.json", "{", "cell.json: Input data was truncated"),
        ("cell.json", "{}", "cell.json: Object missing required field"),
        ("train.csv", "a,b\n", "train.csv: its columns are not index, file"),
        ("train.csv", None, "train.csv: No such file"),
        ("victim.safetensors", None, "victim.safetensors: No such file"),
    ],
)
def test_a_folder_that_is_damaged_is_one_line(name, content, says, exported, workspace, tmp_path):
    shutil.copytree(exported("pixel"), tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    if content is not None:
        (tmp_path / "copy" / name).write_text(content)
    with pytest.raises(BenchError, match=says):
        victim(read_back(tmp_path / "copy"), workspace)


@pytest.mark.parametrize("file", ["../outside.png", "/etc/hostname", "train", "cell.json"])
def test_only_images_of_the_folder_are_read(file, exported, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(exported("pixel") / "cell.json", tmp_path / "in")
    (tmp_path / "in/train").mkdir()
    Image.new("L", (12, 12)).save(tmp_path / "outside.png")
    with pytest.raises(DataError, match=r"it is no file of|it cannot be read"):
        exchange.image(tmp_path / "in", file, exchange.digest(torch.zeros(1, 12, 12).byte()))


def test_another_data_set_is_told(exported, workspace):
    with pytest.raises(BenchError, match=r"has 4 classes of images \[1, 12, 12\], the data set 10"):
        victim(dataclasses.replace(read_back(exported("pixel")), dataset="digits"), workspace)


def test_another_training_set_is_told(exported, workspace):
    folder = str(exported("pixel"))
    attack = ATTACKS.create("imported", path=folder, shape=(1, 12, 12), num_classes=4)
    labels = victim(CELLS["pixel"], workspace).dataset.train.labels
    assert (attack.choose(labels, torch.Generator()).roles == 1).sum() == 52
    with pytest.raises(ValueError, match="is of another training set"):
        attack.choose((labels + 1) % 4, torch.Generator())


def test_it_is_found_by_its_name_alone():
    assert "imported" in ATTACKS
    assert ATTACKS.names("imported") == ["imported"]
    assert "imported" not in ATTACKS.names()
    assert "imported" not in ATTACKS.names("imp*")


def test_a_folder_that_holds_something_is_left_as_it_is(workspace, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BenchError, match="it is not empty, and nothing of it is overwritten"):
        export(CELLS["pixel"], tmp_path, workspace)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "cell",
    [
        *CELLS.values(),
        Cell("tiny", model="vit", model_params={"depth": 2}, attack="none", seed=12),
        Cell("tiny", attack="pixel", attack_params={"poison_rate": 0.1}),
    ],
    ids=lambda cell: cell.id,
)
def test_a_cells_id_names_it(cell):
    assert named(cell.id) == cell


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tiny-simplecnn-pixel", "is no cell without a defense like mnist-simplecnn-patch-s0"),
        ("tiny-simplecnn-pixel-anp-s0", "a cell is exported without its defense"),
        ("tiny-simplecnn-pixel+rate-s0", "'rate' is not name=value"),
        ("tiny-simplecnn-pixle-s0", "unknown attack 'pixle' (did you mean pixel"),
    ],
)
def test_what_names_no_cell_is_one_line(text, says, tmp_path, capsys):
    assert main(["export", text, str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_it_says(tmp_path, capsys, cache):
    assert main(["export", "tiny-simplecnn-pixel-s0", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "520 training images, 172 triggered ones" in told
    about = json.loads((tmp_path / "out/cell.json").read_text())
    assert about["cell"]["attack"] == "pixel"
    assert Path(tmp_path / "out/triggered0/test").is_dir()


@pytest.fixture
def foreign(tmp_path):
    """What BackdoorBench would save of a white corner on every tenth training image of class 1 to
    3, aimed at class 0: positions are those of the published data set, NumPy's numbers."""
    parts = {}
    raw = DATASETS["tiny"].factory(tmp_path)
    for part, published, step in (("bd_train", raw.train, 10), ("bd_test", raw.test, 1)):
        some = torch.arange(0, len(published), step)
        some = some[published.labels[some] != 0]
        images, indicator, listed = published.take(some), np.zeros(len(published)), {}
        for at, position in enumerate(some.tolist()):
            label = int(images.labels[at])
            pixels = images.bytes(torch.tensor([at]))[0]
            pixels[:, :3, :3] = 255
            name = f"{label}/{position}.png"
            exchange.write_image(tmp_path / f"{part}_dataset", name, pixels)
            indicator[position] = 1
            path = f"./record/mine/{part}_dataset/{name}"
            listed[np.int64(position)] = {"path": path, "other_info": [0, label]}
        parts[part] = {
            "bd_data_container": {"data_dict": listed, "save_folder_path": "./record/mine"},
            "original_index_array": np.arange(len(published)),
            "poison_indicator": indicator,
        }
    return tmp_path, {"num_classes": 4, "model": {"module.w": torch.ones(2)}, **parts}


def saved(foreign, **changes):
    folder, content = foreign
    torch.save({**content, **changes}, folder / "attack_result.pt")
    return folder


def test_what_backdoorbench_saved_becomes_a_cell(foreign, workspace, tmp_path, capsys):
    result = saved(foreign)
    assert main(["import", str(result), str(tmp_path / "new"), "--dataset", "tiny"]) == 0
    assert "520 training images, " in capsys.readouterr().out
    cell = read_back(tmp_path / "new")
    made = victim(cell, workspace)
    poison = (made.roles == 1).nonzero().flatten()
    names = json.loads((tmp_path / "new/cell.json").read_text())["cell"]["source"]
    assert names == f"BackdoorBench, {result.name}"
    of_all = sum(1 for _ in (result / "bd_train_dataset").rglob("*.png"))
    assert 0.8 * of_all < len(poison) < of_all  # some are clean images or held out here
    assert made.dataset.train.labels[poison].ne(0).all()
    assert made.received.labels[poison].eq(0).all()
    assert made.received.bytes(poison)[:, :, :3, :3].eq(255).all()
    assert made.attack.applies(torch.arange(4)).tolist() == [False, True, True, True]
    assert made.triggered().images[made.dataset.test.labels != 0][:, :, :3, :3].eq(1).all()
    metrics = run(cell, workspace).metrics
    assert metrics["asr"] > 0.9
    assert metrics["clean_accuracy"] > 0.9


def test_its_weights_can_be_audited(foreign):
    assert list(checkpoint(saved(foreign) / "attack_result.pt")) == ["module.w"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_classes": 10}, "it has 10 classes, data set 'tiny' has 4"),
        ({"bd_train": None}, "it holds no training set, since the attack controlled the training"),
        ({"model": {}}, "it holds no weights by name"),
        ({"bd_test": {}}, "bd_test: its entries are not position -> path and labels"),
        ({"bd_test": Path("x")}, "asks for pathlib"),
    ],
)
def test_another_suites_result_that_is_none_is_one_line(change, says, foreign, tmp_path, capsys):
    result = saved(foreign, **change)
    assert main(["import", str(result), str(tmp_path / "new"), "--dataset", "tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "new/cell.json").exists()


def test_a_result_of_another_data_set_is_told(foreign, tmp_path, capsys):
    _, content = foreign
    listed = content["bd_train"]["bd_data_container"]["data_dict"]
    first = next(iter(listed.values()))
    first["other_info"] = [0, first["other_info"][1] % 3 + 1]
    assert main(["import", str(saved(foreign)), str(tmp_path / "new"), "--dataset", "tiny"]) == 2
    assert "it was made of an image of class" in capsys.readouterr().err


def test_a_result_that_was_not_imported_says_how(foreign, workspace):
    with pytest.raises(BenchError, match=r"`python -m bench import .* NEW --dataset NAME`"):
        victim(read_back(saved(foreign)), workspace)
