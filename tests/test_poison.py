"""What reaches the training set: drawn by itself, within the attacker's power, labelled."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import ClassVar

import pytest
import torch

from attacks import ATTACKS, COVER, POISON, Attack, attack
from bench import Cell
from bench.runtime.workspace import Workspace
from bench.victims import victim
from bench.victims.poison import handed_over, planned
from fixtures import datasets, models
from fixtures.datasets import RawData
from fixtures.errors import DataError, PluginError
from fixtures.images import ImageSet
from fixtures.recipes import Recipe

QUICK = {"recipe": "adamw", "recipe_params": {"epochs": 1, "min_steps": 10}}


@pytest.fixture(autouse=True)
def _own_attacks():
    """What a test registers is forgotten."""
    with ATTACKS.temporary():
        yield


@pytest.fixture
def tiny():
    return datasets.load("tiny")


def test_a_target_is_the_same_for_whoever_builds_the_attack_first(surroundings):
    program = """
from bench import Cell
from bench.victims.train import build_attack
from fixtures import datasets
digits = datasets.load("digits")
print([build_attack(Cell("digits", attack="blended"), digits).target for _ in range(2)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=surroundings(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first == second


class Stamps(Attack):
    def forward(self, images):
        stamped = images.clone()
        stamped[..., -2:, -2:] = 1.0
        return stamped


class Tampers(Stamps):
    def tamper(self, net, access):
        return net


def test_an_attacker_of_the_weights_reaches_no_training_image(tmp_path):
    attack("tampers", level=1, needs="model")(Tampers)
    attacked = victim(Cell("tiny", attack="tampers", **QUICK), Workspace(cache=tmp_path))
    assert not attacked.roles.any()


@pytest.mark.parametrize(
    ("needs", "hook"),
    [("model", "choose"), ("model", "stamp"), ("model", "on_batch"), ("data", "on_batch"),
     ("data", "penalty"), ("data", "on_epoch"), ("data", "tamper")],
)  # fmt: skip
def test_a_hook_beyond_the_declared_power_is_one_line(needs, hook, tmp_path):
    attack("greedy", level=1, needs=needs)(type("Greedy", (Stamps,), {hook: lambda *_: None}))
    with pytest.raises(PluginError, match=f"^attack 'greedy': has {hook}, which needs = "):
        victim(Cell("tiny", attack="greedy", **QUICK), Workspace(cache=tmp_path))


class WrongCovers(Stamps):
    def on_batch(self, images, labels, roles, index, net, generator):
        return images, torch.zeros_like(labels), torch.full_like(roles, COVER)


def test_a_cover_keeps_its_label(tiny, tmp_path):
    wrong = WrongCovers(shape=tiny.shape, num_classes=4)
    plan = planned("attack 'wrong'", wrong, tiny.train, seed=0)
    net = models.build("simplecnn", tiny)
    with pytest.raises(PluginError, match=r"gave \d+ covers another label: a cover keeps its own"):
        handed_over("attack 'wrong'", wrong, net, tiny.train, plan, 0, 32, tmp_path / "pixels")
    assert list(tmp_path.iterdir()) == []


class Watches(Stamps):
    shares: ClassVar[list[float]] = []

    def on_batch(self, images, labels, roles, index, net, generator):
        self.shares.append(float((roles == POISON).double().mean()))
        return super().on_batch(images, labels, roles, index, net, generator)


def test_the_last_pass_does_not_repeat_the_attackers_draw(tiny, tmp_path):
    """From one seed the first images of the pass would be those that were chosen."""
    attack("watches", level=1, needs="training")(Watches)
    cell = Cell("tiny", attack="watches", attack_params={"mapping": "all2all"}, **QUICK)
    victim(cell, Workspace(cache=tmp_path))
    batches = Recipe(**QUICK["recipe_params"]).batches(len(tiny.train))
    assert max(Watches.shares[-batches:]) < 0.6


def test_what_one_training_sees_does_not_move_the_next(tmp_path):
    attacked = victim(Cell("tiny", **QUICK), Workspace(cache=tmp_path))
    second = []
    for images in (40, 39):
        view = attacked.view(0, {"suspect"})
        view.train(view.suspect.take(torch.arange(images)))
        second.append(view.train(view.suspect.take(torch.arange(100, 150))).state_dict())
    assert all(torch.equal(second[0][name], second[1][name]) for name in second[0])


def test_a_class_of_three_has_one_image_in_every_split():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    raw = RawData(*[ImageSet(torch.rand(9, 1, 8, 8), labels)] * 2, ("a", "b", "c"))
    data = datasets.split("few", lambda root: raw, None)
    for part in (data.train, data.clean, data.validation):
        assert {0, 1} <= set(part.labels.tolist())
    assert 2 not in data.clean.labels  # two images of a class are for training


def test_a_defender_without_a_clean_image_is_one_line(tmp_path):
    attacked = victim(Cell("tiny", **QUICK), Workspace(cache=tmp_path))
    empty = attacked.dataset.clean.take(torch.arange(0))
    poor = dataclasses.replace(attacked, dataset=dataclasses.replace(attacked.dataset, clean=empty))
    with pytest.raises(DataError, match="data set 'tiny': the defender has no clean image, since"):
        poor.view(0, {"clean"})
