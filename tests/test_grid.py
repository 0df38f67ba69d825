"""Whoever stamps images hands over 8-bit images: no pixel lies between two grey levels."""

from __future__ import annotations

import dataclasses

import pytest

from attacks import ATTACKS, POISON
from bench import Cell, run
from bench.runtime.workspace import Workspace
from bench.victims.provide import victim
from fixtures import datasets

QUICK = {"epochs": 1, "min_steps": 10}
BUILT_IN = ATTACKS.names()
HOOKED = (
    *("by_source", "discriminator", "invented", "retrained"),
    *("staged", "surrogate", "two_squares", "weights"),
)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    return Workspace(cache=tmp_path_factory.mktemp("grid"), device="cpu")


@pytest.mark.parametrize("name", [*BUILT_IN, *HOOKED])
def test_a_detector_that_flags_pixels_off_the_8_bit_grid_scores_like_chance(name, at, hooks):
    quick = Cell("tiny", attack=name, recipe="adamw", recipe_params=QUICK)
    attacked = victim(quick, at)
    for images in (attacked.suspect, *map(attacked.triggered, range(attacked.attack.triggers))):
        assert not hooks.off_grid(images.images).any()
    record = run(dataclasses.replace(quick, defense="off_grid"), at)
    if (attacked.roles == POISON).any():
        assert record.metrics["auroc"] == 0.5
        assert record.metrics["f1"] == 0.0


def test_the_detector_sees_a_trigger_that_was_not_rounded(hooks):
    images = datasets.load("digits").test.images[:20]
    assert not hooks.off_grid(images).any()
    assert hooks.off_grid(ATTACKS.create("blended")(images)).all()
