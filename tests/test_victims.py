from __future__ import annotations

import dataclasses
import json
import pickle

import pytest
import torch

from bench import Cell
from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.victims import store
from bench.victims.provide import victim
from fixtures import training
from fixtures.errors import BenchError, TrainingError
from fixtures.training import Recipe

CELL = Cell("tiny", attack="patch")


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A cache of its own, and training that takes no time."""
    monkeypatch.setattr(defaults, "recipe", lambda _: Recipe(epochs=1, min_steps=10))
    return Workspace(cache=tmp_path / "cache", device="cpu")


def reload(at):
    at.forget()
    return victim(CELL, at)


def stored(at, suffix):
    (path,) = (at.cache / "victims").glob(f"*{suffix}")
    return path


def test_a_victim_is_trained_once_and_loaded_after(at):
    first, second = victim(CELL, at), reload(at)
    assert (first.trained, second.trained) == (True, False)
    assert second.training == first.training
    assert torch.equal(first.poisoned, second.poisoned)
    assert torch.equal(first.suspect.images, second.suspect.images)
    images = first.dataset.test.images
    assert torch.equal(
        training.predict(first.model, images), training.predict(second.model, images)
    )


def test_a_loaded_victim_lies_in_memory_as_a_trained_one_does(at):
    first, second = victim(CELL, at), reload(at)
    strides = [[weight.stride() for weight in v.model.parameters()] for v in (first, second)]
    assert strides[0] == strides[1]


def test_the_victim_that_was_used_longest_ago_is_let_go_first(at):
    clean = victim(dataclasses.replace(CELL, attack="none"), at)
    for attack in ("pixel", "noise"):
        victim(dataclasses.replace(CELL, attack=attack), at)
        assert victim(clean.cell, at) is clean


def test_a_learned_trigger_is_stored_with_its_victim(at):
    first, second = victim(CELL, at), reload(at)
    assert torch.equal(first.attack.logits, second.attack.logits)
    patched = first.suspect.images[first.poisoned][..., -8:, -8:]
    assert torch.allclose(patched, first.attack.logits.sigmoid().expand_as(patched))


def test_every_defense_shares_one_victim(at):
    first = victim(CELL, at)
    assert victim(dataclasses.replace(CELL, defense="fine_pruning"), at) is first


def test_only_safetensors_and_json_are_stored(at):
    victim(CELL, at)
    assert {p.suffix for p in (at.cache / "victims").iterdir()} == {
        ".safetensors",
        ".json",
        ".lock",
    }


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".safetensors", lambda data: data[: len(data) // 2], "its checksum does not match"),
        (".safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its checksum does not"),
        (".safetensors", lambda _: pickle.dumps({"model": 1}), "its checksum does not match"),
        (".json", lambda data: data[: len(data) // 2], ""),
        (".json", lambda _: b"{}", "it lacks 'schema'"),
        (".json", lambda data: data.replace(b'"training"', b'"draining"'), "it lacks 'training'"),
        (".json", lambda data: data.replace(b'"schema": 1', b'"schema": 0'), "schema 0, this vers"),
    ],
)
def test_a_damaged_victim_is_named_set_aside_and_trained_anew(at, suffix, damage, reason):
    first = victim(CELL, at)
    path = stored(at, suffix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=rf"victim of {CELL.id} is damaged \(.*{reason}"):
        again = reload(at)
    assert again.trained
    assert torch.equal(again.model.head.weight, first.model.head.weight)
    assert path.with_name(path.name + ".damaged").exists()


def test_weights_that_fit_only_in_part_do_not_seed_the_new_training(at):
    first = victim(CELL, at)
    tensors = {
        k: v + 1 for k, v in store.load_tensors(stored(at, ".safetensors").read_bytes()).items()
    }
    del tensors["model.head.bias"]
    data = store.save_tensors(tensors)
    about = json.loads(stored(at, ".json").read_text())
    about["sha256"] = store.hashlib.sha256(data).hexdigest()
    stored(at, ".safetensors").write_bytes(data)
    stored(at, ".json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match="is damaged"):
        again = reload(at)
    assert torch.equal(again.model.conv1.weight, first.model.conv1.weight)


def test_a_pickle_with_a_matching_checksum_is_still_not_loaded(at, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    victim(CELL, at)
    data = pickle.dumps(Bomb())
    stored(at, ".safetensors").write_bytes(data)
    about = json.loads(stored(at, ".json").read_text())
    about["sha256"] = store.hashlib.sha256(data).hexdigest()
    stored(at, ".json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match="is damaged"):
        assert reload(at).trained
    assert not (tmp_path / "exploded").exists()


def test_a_diverging_training_names_the_cell(at, monkeypatch):
    monkeypatch.setattr(defaults, "recipe", lambda _: Recipe(min_steps=10, peak_lr=1e30))
    with pytest.raises(
        TrainingError, match=rf"training {CELL.id}: the loss became (nan|inf) in epoch"
    ):
        victim(CELL, at)
    assert not list((at.cache / "victims").glob("*.safetensors"))


def test_a_wrong_parameter_is_one_line_that_names_the_attack(at):
    with pytest.raises(BenchError, match=r"attack 'patch': raised TypeError: .*'sise'"):
        victim(dataclasses.replace(CELL, attack_params={"sise": 3}), at)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BenchError, match=r"cannot write to .*file/victims: Not a directory"):
        victim(CELL, Workspace(cache=tmp_path / "file", device="cpu"))
