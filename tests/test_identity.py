from __future__ import annotations

import dataclasses
import importlib
import re
import sys

import pytest
import torch

from attacks import ATTACKS
from bench import Cell
from bench.spec import identity
from bench.spec.identity import cell_identity, key, source_of
from bench.victims.provide import identity_of
from defenses import DEFENSES
from fixtures import training
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


def test_the_same_code_has_the_same_identity(stranger):
    assert source_of(stranger("0.5")) == source_of(stranger("0.5"))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"attack": "noise"},
        {"attack_params": {"size": 4}},
        {"model_params": {"hidden": 64}},
    ],
)
def test_whatever_shapes_the_victim_is_in_its_identity(change, workspace):
    other = dataclasses.replace(CELL, **change)
    assert key(identity_of(CELL, workspace)) != key(identity_of(other, workspace))


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
        victim = identity_of(cell, workspace)
        return key(victim), key(cell_identity(cell, victim))

    before, read = keys(), identity.source_of
    monkeypatch.setattr(identity, "source_of", lambda f: "another" if f is factory else read(f))
    after = keys()
    assert after[1] != before[1]
    assert (after[0] != before[0]) == (part in ("attack", "model", "training"))


def test_the_defense_shapes_the_cell_but_not_its_victim(workspace):
    defended = dataclasses.replace(CELL, defense="fine_pruning")
    victim = identity_of(CELL, workspace)
    assert key(victim) == key(identity_of(defended, workspace))
    assert key(cell_identity(CELL, victim)) != key(cell_identity(defended, victim))


def test_a_sibling_plugins_code_is_not_in_the_identity():
    sources = identity.sources(ATTACKS["pixel"].factory)
    assert "class Pixel" in sources["attacks.pixel"]
    assert "attacks.base" in sources
    assert not {"attacks.noise", "attacks.patch", "defenses.base"} & set(sources)


def test_what_decides_the_last_digits_is_named():
    machine = identity.machine(torch.device("cpu"))
    assert machine["dtype"] in ("bfloat16", "float32")
    assert machine["threads"] == torch.get_num_threads()
    assert machine["capability"]


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
    assert dataclasses.replace(CELL, attack_params={"size": 4}).id == (
        "digits-simplecnn-pixel+size=4-s0"
    )
    odd = dataclasses.replace(CELL, attack_params={"words": "../elsewhere"})
    assert re.fullmatch(r"digits-simplecnn-pixel\+[0-9a-f]{8}-s0", odd.id)
