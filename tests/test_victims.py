from __future__ import annotations

import dataclasses
import json
import pickle
import re

import pytest
import torch

from attacks import ATTACKS, POISON
from bench import Cell
from bench.runtime.workspace import Workspace
from bench.victims import store
from bench.victims.provide import victim
from defenses.handed import opened
from fixtures import training
from fixtures.errors import BenchError, TrainingError

QUICK = {"epochs": 1, "min_steps": 10}
CELL = Cell("tiny", attack="patch", recipe="adamw", recipe_params=QUICK)


@pytest.fixture
def at(tmp_path):
    """A cache of its own."""
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
    assert torch.equal(first.roles, second.roles)
    assert torch.equal(first.suspect.images, second.suspect.images)
    test = first.dataset.test
    assert torch.equal(training.predict(first.model, test), training.predict(second.model, test))


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
    learned = first.attack.logits.sigmoid()
    rows, columns = learned.shape[-2:]
    patched = first.suspect.images[first.roles == POISON][..., -rows:, -columns:]
    assert torch.allclose(patched, learned.expand_as(patched), atol=0.5 / 255)


def test_the_poison_is_stored_and_never_made_again(at, monkeypatch):
    pixel = dataclasses.replace(CELL, attack="pixel")
    first = victim(pixel, at)
    at.forget()
    monkeypatch.setattr(ATTACKS["pixel"].factory, "stamp", None)
    monkeypatch.setattr(ATTACKS["pixel"].factory, "choose", None)
    second = victim(pixel, at)
    assert not second.trained
    assert torch.equal(first.received.images, second.received.images)
    assert torch.equal(first.received.labels, second.received.labels)


def test_what_a_defender_receives_does_not_tell_where_the_poison_lies(at):
    attacked = victim(dataclasses.replace(CELL, attack="pixel"), at)
    suspect = attacked.view(0, {"suspect"}).suspect
    everything = torch.arange(len(suspect))
    assert torch.equal(suspect.bytes(everything), attacked.received.bytes(everything))
    held = [value for value in vars(suspect).values() if isinstance(value, torch.Tensor)]
    assert sorted(tensor.ndim for tensor in held) == [1, 4]  # labels, and one array of pixels


def test_the_images_that_are_handed_over_are_shared_by_every_cell_and_the_model_is_not(at):
    attacked = victim(CELL, at)
    everything = frozenset({"model", "clean", "suspect"})
    first, second = (attacked.handed(seed, everything) for seed in (0, 1))
    assert first.suspect.path == second.suspect.path
    assert first.clean.path == second.clean.path
    views = [opened(first), opened(second)]
    assert views[0].model is not views[1].model
    assert torch.equal(views[0].suspect.images, attacked.suspect.images)


def test_a_fresh_network_has_the_architecture_and_none_of_the_weights(at):
    attacked = victim(CELL, at)
    fresh = attacked.view(0, {"model"}).fresh()
    weights, own = fresh.state_dict(), attacked.model.state_dict()
    assert weights.keys() == own.keys()
    assert not torch.equal(weights["head.weight"], own["head.weight"])


def test_a_view_trains_by_the_victims_own_recipe(at, monkeypatch):
    attacked, seen = victim(CELL, at), []
    monkeypatch.setattr("defenses.view.fit", lambda net, data, recipe, **_: seen.append(recipe))
    view = attacked.view(0, {"clean"})
    view.train(view.clean)
    view.train(view.clean, peak_lr=0.5)
    assert (seen[0].epochs, seen[0].min_steps) == (1, 10)
    assert seen[1] == dataclasses.replace(seen[0], peak_lr=0.5)


def test_images_too_large_for_memory_lie_in_a_file_beside_the_victim(at, monkeypatch):
    monkeypatch.setattr("bench.victims.provide.IN_MEMORY", 0)
    attacked = victim(CELL, at)
    in_file = attacked.suspect.images, attacked.triggered().images
    monkeypatch.setattr("bench.victims.provide.IN_MEMORY", 1 << 30)
    again = reload(at)
    assert torch.equal(in_file[0], again.suspect.images)
    assert torch.equal(in_file[1], again.triggered().images)
    assert stored(at, ".suspect").stat().st_size == again.suspect.nbytes


def test_every_defense_shares_one_victim(at):
    first = victim(CELL, at)
    assert victim(dataclasses.replace(CELL, defense="fine_pruning"), at) is first


def test_only_safetensors_and_json_are_stored(at):
    victim(CELL, at)
    assert {p.suffix for p in (at.cache / "victims").iterdir()} == {
        ".safetensors",
        ".json",
        ".lock",
        ".overlay",  # bytes of images and nothing else
    }


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".safetensors", lambda data: data[: len(data) // 2], "its checksum does not match"),
        (".safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its checksum does not"),
        (".safetensors", lambda _: pickle.dumps({"model": 1}), "its checksum does not match"),
        (".overlay", lambda data: data[: len(data) // 2], "the checksum of its poison does not"),
        (".overlay", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "the checksum of its poison"),
        (".json", lambda data: data[: len(data) // 2], ""),
        (".json", lambda _: b"{}", "it lacks 'schema'"),
        (".json", lambda data: data.replace(b'"training"', b'"draining"'), "it lacks 'training'"),
        (".json", lambda data: data.replace(b'"schema": 2', b'"schema": 0'), "schema 0, this vers"),
    ],
)
def test_a_damaged_victim_is_named_set_aside_and_trained_anew(at, suffix, damage, reason):
    first = victim(CELL, at)
    path = stored(at, suffix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(
        UserWarning, match=rf"victim of {re.escape(CELL.id)} is damaged \(.*{reason}"
    ):
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


def test_a_diverging_training_names_the_cell(at):
    cell = dataclasses.replace(CELL, recipe_params={"min_steps": 10, "peak_lr": 1e30})
    with pytest.raises(
        TrainingError, match=rf"training {re.escape(cell.id)}: the loss became (nan|inf) in epoch"
    ):
        victim(cell, at)
    assert not list((at.cache / "victims").glob("*.safetensors"))


def test_a_wrong_parameter_is_one_line_that_names_the_attack(at):
    with pytest.raises(BenchError, match=r"attack 'patch': raised TypeError: .*'sise'"):
        victim(dataclasses.replace(CELL, attack_params={"sise": 3}), at)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BenchError, match=r"cannot write to .*file/victims: Not a directory"):
        victim(CELL, Workspace(cache=tmp_path / "file", device="cpu"))
