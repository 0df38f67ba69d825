"""Recipes say how a network is trained: what they accept, and what they do to images."""

from __future__ import annotations

import pytest
import torch

from fixtures.augment import augmented, shifted
from fixtures.recipes import RECIPES, Recipe


def test_small_data_get_small_batches_and_many_passes():
    recipe = Recipe(epochs=2, min_steps=800, batch_size=128, min_batches=40)
    assert (recipe.batch(57_000), recipe.passes(57_000)) == (128, 2)
    assert (recipe.batch(1_368), recipe.passes(1_368)) == (34, 20)
    assert recipe.batch(10) == 32


def test_a_shift_moves_each_image_by_its_own_offset_over_black():
    images = torch.zeros(200, 1, 9, 9)
    images[..., 4, 4] = 1.0
    moved = shifted(images, 2, torch.Generator().manual_seed(0))
    places = moved.flatten(1).argmax(1)
    assert (moved.sum((1, 2, 3)) == 1).all()
    assert len(places.unique()) == 25
    assert ((places // 9 - 4).abs() <= 2).all()
    assert ((places % 9 - 4).abs() <= 2).all()


def test_a_crop_fills_its_border_with_the_mirrored_image():
    ramp = torch.arange(9.0).view(1, 1, 1, 9).expand(50, 1, 9, 9) / 8
    moved = augmented(ramp, Recipe(crop=2), torch.Generator().manual_seed(0))
    rows = {tuple((row * 8).round().int().tolist()) for row in moved[:, 0, 4]}
    assert (2, 1, 0, 1, 2, 3, 4, 5, 6) in rows
    assert (2, 3, 4, 5, 6, 7, 8, 7, 6) in rows


def test_half_of_the_images_are_mirrored():
    ramp = torch.arange(9.0).view(1, 1, 1, 9).expand(400, 1, 9, 9)
    seen = augmented(ramp, Recipe(flip=True), torch.Generator().manual_seed(0))
    mirrored = (seen == ramp.flip(3)).flatten(1).all(1)
    assert ((seen == ramp).flatten(1).all(1) ^ mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("name", RECIPES.names())
def test_a_recipes_fields_can_be_changed(name):
    changed = RECIPES.create(name, epochs=17)
    assert changed.epochs == 17
    assert changed.optimizer == RECIPES.create(name).optimizer


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("optimizer", "adam", "optimizer is one of adamw, sgd, got 'adam'"),
        ("schedule", "step", "schedule is one of onecycle, cosine, constant, got 'step'"),
        ("peak_lr", -0.1, "peak_lr is a number from 0 upwards, got -0.1"),
        ("flip", "no", "flip is true or false, got 'no'"),
        ("peak_lr", float("nan"), "peak_lr is a number from 0 upwards, got nan"),
        ("epochs", 2.5, "epochs is a whole number from 0 upwards, got 2.5"),
        ("shift", "2", "shift is a whole number from 0 upwards, got '2'"),
        ("batch_size", 0, "batch_size is more than 0"),
        ("label_smoothing", 1.0, r"label_smoothing lies in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_field_of_a_recipe_is_named(field, value, reason):
    with pytest.raises(ValueError, match=reason):
        Recipe(**{field: value})


def test_no_batch_is_of_one_image_unless_there_is_no_other():
    recipe = Recipe(batch_size=32, min_batches=1)
    for samples in (1, 2, 31, 32, 33, 64, 65, 66):
        parts = recipe.split(torch.arange(samples))
        assert torch.equal(torch.cat(parts), torch.arange(samples))
        assert len(parts) == recipe.batches(samples)
        assert min(map(len, parts)) > 1 or samples == 1
    assert [len(part) for part in recipe.split(torch.arange(65))] == [32, 33]
