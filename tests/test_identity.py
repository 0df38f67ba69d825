from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from attacks import ATTACKS
from bench import Cell
from bench.measure import resolve
from bench.runtime.environment import machine
from bench.spec import defaults, identity
from bench.spec.identity import source_of
from bench.spec.job import victim_job
from defenses import DEFENSES
from fixtures import training
from fixtures.datasets import DATASETS, dataset, splitting
from fixtures.models import MODELS

CELL = Cell("digits", attack="pixel")

HELPER = "AMOUNT = {}\n"
PLUGIN = """
from attacks import Attack
{imported} import AMOUNT

class Theirs(Attack):
    def forward(self, images):
        return images * AMOUNT
"""


@pytest.fixture(params=["from stranger.helper", "from .helper"])
def stranger(tmp_path, monkeypatch, request):
    """A third-party package with one attack that takes a constant from a sibling file."""
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN.format(imported=request.param))
    monkeypatch.syspath_prepend(tmp_path)

    def load(amount):
        (package / "helper.py").write_text(HELPER.format(amount))
        for name in [name for name in sys.modules if name.startswith("stranger")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("stranger.plugin").Theirs

    yield load
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]


def test_changing_a_triggers_code_changes_the_identity(stranger):
    # The helper's text differs in length, so that no timestamp granularity can hide it.
    first, second = source_of(stranger("0.5")), source_of(stranger("0.25"))
    assert first != second


def test_a_comment_in_a_plugins_code_changes_no_identity(stranger, tmp_path):
    before = source_of(stranger("0.5"))
    assert source_of(stranger("0.5  # half")) == before
    plugin = tmp_path / "stranger" / "plugin.py"
    plugin.write_text(plugin.read_text().replace("class Theirs", "# of theirs\nclass Theirs"))
    assert source_of(stranger("0.5")) == before


def test_the_same_code_has_the_same_identity(stranger):
    assert source_of(stranger("0.5")) == source_of(stranger("0.5"))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"attack": "noise"},
        {"attack_params": {"size": 0.2}},
        {"model_params": {"hidden": 64}},
        {"dataset_params": {"flips": True}},
        {"recipe": "adamw"},
        {"recipe": "sgd", "recipe_params": {"epochs": 3}},
    ],
)
def test_whatever_shapes_the_victim_is_in_its_identity(change, workspace):
    other = dataclasses.replace(CELL, **change)
    assert victim_job(CELL, workspace).key != victim_job(other, workspace).key


@pytest.mark.parametrize("part", ["attack", "model", "training", "defense", "control"])
def test_a_change_of_any_partys_code_is_another_run(part, monkeypatch, workspace):
    """A victim or record from before the change must not be found again."""
    factory = {
        "attack": ATTACKS["pixel"].factory,
        "model": MODELS["simplecnn"].factory,
        "training": training.fit,
        "defense": DEFENSES["fine_pruning"].factory,
        "control": ATTACKS["none"].factory,
    }[part]
    cell = CELL if part == "control" else dataclasses.replace(CELL, defense="fine_pruning")

    def keys():
        job = resolve(cell, workspace)
        return job.victim.key, job.key

    before, read = keys(), identity.source_of
    monkeypatch.setattr(identity, "source_of", lambda f: "another" if f is factory else read(f))
    after = keys()
    assert after[1] != before[1]
    assert (after[0] != before[0]) == (part in ("attack", "model", "training"))


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("judge/repairs.py", "defender.make(", "defender.make(  # said\n", set()),
        ("judge/repairs.py", "manual_seed(0)", "manual_seed(1)", {"fine_pruning"}),
        ("judge/samples.py", "float(len(accused - guilty))", "0.0", {"activation_clustering"}),
        ("judge/models.py", "0.5", "0.6", {"neural_cleanse"}),
        ("judge/inputs.py", "% 2 == 1", "% 2 == 0", {"strip"}),
        ("judge/attacks.py", "GALLERY_IMAGES = 4", "GALLERY_IMAGES = 5", {"none"}),
        ("judge/formulas.py", "<= 0.05", "<= 0.06", None),
        ("runtime/contracts.py", "returned NaN or infinite pixels", "went wrong", set()),
        ("victims/controls.py", "cell.seed + 1", "cell.seed + 2", None),
        ("victims/provide.py", "self.dataset.clean, budget", "self.dataset.test, budget", None),
        ("measure.py", "record.save(job.path)", "pass", set()),
    ],
)
def test_a_referee_shapes_what_it_judges_and_nothing_else(
    file, old, new, changed, workspace, tmp_path, monkeypatch
):
    """``changed``: the defenses whose cells become other runs; None means all."""
    defenses = ["none", "fine_pruning", "activation_clustering", "neural_cleanse", "strip"]

    def keys():
        cells = [dataclasses.replace(CELL, defense=defense) for defense in defenses]
        return {cell.defense: resolve(cell, workspace).key for cell in cells}

    before = keys()
    bench = tmp_path / "bench"
    shutil.copytree(identity.BENCH, bench, ignore=shutil.ignore_patterns("__pycache__"))
    source = (bench / file).read_text()
    assert old in source
    (bench / file).write_text(source.replace(old, new))
    monkeypatch.setattr(identity, "BENCH", bench)
    after = keys()
    found = {defense for defense in defenses if after[defense] != before[defense]}
    assert found == (set(defenses) if changed is None else changed)


def test_where_a_data_set_lies_is_no_part_of_what_a_cell_is(workspace, tmp_path):
    with DATASETS.temporary():

        @dataset("somewhere")
        def somewhere(root, path, half=False):
            assert Path(path).is_dir()
            return DATASETS.create("digits", root=root)

        cells = []
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            params = {"path": str(tmp_path / name), "half": True}
            cells.append(Cell("somewhere", dataset_params=params))
        here, there = cells
        jobs = [resolve(cell, workspace) for cell in (here, there)]
    assert here == there
    assert here.id == "somewhere+half=true-simplecnn-none-s0"
    assert "path" not in str(here.to_json())
    assert jobs[0].key == jobs[1].key
    assert str(tmp_path) not in str(jobs[0].identity)


def test_how_many_clean_images_a_defender_has_is_in_the_identity_of_a_cell(workspace, tmp_path):
    defended = dataclasses.replace(CELL, defense="fine_pruning")
    before = resolve(defended, workspace)
    assert before.identity["asked"]["clean"] is None
    fewer = tmp_path / "defaults.toml"
    text = defaults.FILE.read_text()
    fewer.write_text(text.replace("[digits.recipe]", "[digits]\nclean = 5\n\n[digits.recipe]"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(defaults, "FILE", fewer)
        after = resolve(defended, workspace)
    assert after.identity["asked"]["clean"] == 5
    assert after.key != before.key
    assert after.victim.key == before.victim.key


def test_a_changed_split_is_another_victim(workspace, monkeypatch):
    """The fingerprint is of the published data, not of what is set aside of it."""
    before, read = victim_job(CELL, workspace).key, identity.source_of
    of = splitting.split
    monkeypatch.setattr(identity, "source_of", lambda f: "another" if f is of else read(f))
    assert victim_job(CELL, workspace).key != before


def test_the_code_that_reads_packs_and_names_data_is_in_no_identity():
    sources = set(identity.sources(training.fit)) | set(identity.sources(splitting.split))
    assert {"fixtures.images", "fixtures.codec", "fixtures.recipes", "fixtures.augment"} <= sources
    apart = ("fixtures.packing", "fixtures.datasets.folder", "fixtures.registry", "fixtures.places")
    assert not [name for name in sources if name.startswith(apart)]


def test_the_defense_shapes_the_cell_but_not_its_victim(workspace):
    defended = dataclasses.replace(CELL, defense="fine_pruning")
    job, other = resolve(CELL, workspace), resolve(defended, workspace)
    assert job.victim == other.victim
    assert job.key != other.key


def test_a_sibling_plugins_code_is_not_in_the_identity():
    sources = identity.sources(ATTACKS["pixel"].factory)
    assert "class Pixel" in sources["attacks.pixel"]
    assert "attacks.base" in sources
    assert not {"attacks.noise", "attacks.patch", "defenses.base"} & set(sources)


def test_what_decides_the_last_digits_is_named():
    named = machine(torch.device("cpu"))
    assert named["dtype"] in ("bfloat16", "float32")
    assert named["threads"] == torch.get_num_threads()
    assert named["capability"]


def test_a_gpus_model_and_the_versions_of_its_libraries_are_named(monkeypatch):
    """Figures of two models of GPU must never be averaged."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    monkeypatch.setattr(training, "numerics", lambda _: "bfloat16")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    named = machine(torch.device("cuda"))
    assert (named["gpu"], named["cuda"], named["cudnn"]) == ("a card", "12.8", 91000)
    assert {"threads", "capability"} <= set(named)


def test_what_differs_is_named():
    before = {"asked": {"recipe": {"epochs": 2}, "seed": 0}, "code": {"attack": "a"}}
    after = {"asked": {"recipe": {"epochs": 3}, "seed": 0}, "code": {"attack": "b"}}
    assert identity.differences(before, after) == ["recipe epochs 2 -> 3", "code of attack"]
    assert identity.differences(before, before) == []
    assert identity.differences(before, after, "code") == ["code of attack"]


def test_ids_are_what_people_read():
    assert CELL.id == "digits-simplecnn-pixel-s0"
    assert dataclasses.replace(CELL, defense="fine_pruning", seed=2).id == (
        "digits-simplecnn-pixel-fine_pruning-s2"
    )
    assert dataclasses.replace(CELL, attack_params={"size": 0.2}).id == (
        "digits-simplecnn-pixel+size=0.2-s0"
    )
    spoken = Cell(
        "folder", "vit", "pixel", "fine_pruning",
        attack_params={"size": 0.2}, dataset_params={"name": "birds", "size": 64, "path": "/x"},
        model_params={"depth": 6}, recipe="sgd", recipe_params={"epochs": 3},
    )  # fmt: skip
    assert spoken.id == (
        "folder+name=birds+size=64-vit+depth=6@sgd+epochs=3-pixel+size=0.2-fine_pruning-s0"
    )
    odd = dataclasses.replace(CELL, attack_params={"words": "../elsewhere"})
    assert re.fullmatch(r"digits-simplecnn-pixel\+[0-9a-f]{8}-s0", odd.id)
