"""How a victim is trained where nobody, the model, the data set or the command line says so."""

from __future__ import annotations

import dataclasses

import pytest

from bench.spec import defaults
from bench.spec.cell import Cell
from fixtures import datasets
from fixtures.datasets import DATASETS, dataset
from fixtures.errors import BenchError
from fixtures.models import MODELS, model
from fixtures.recipes import RECIPES, Recipe, recipe


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.fixture
def asking():
    """A data set and a model that are registered with defaults, for the length of a test."""
    with DATASETS.temporary(), MODELS.temporary(), RECIPES.temporary():

        def register(of_dataset, of_model):
            dataset("theirs", defaults=of_dataset)(lambda root: None)
            model("ours", recipe=of_model)(lambda **_: None)
            return Cell("theirs", "ours")

        yield register


def test_nobody_asks_for_anything(asking, digits):
    assert defaults.recipe(asking({}, {}), digits) == Recipe()


@pytest.mark.parametrize(
    ("of_dataset", "of_model", "expected"),
    [
        ({}, {"epochs": 7}, {"epochs": 7}),
        ({"recipe": {"epochs": 5}}, {"epochs": 7, "batch_size": 64}, {"epochs": 5}),
        ({"recipe": {"epochs": 5}}, {"batch_size": 64}, {"epochs": 5, "batch_size": 64}),
        (
            {"recipe": {"epochs": 5}, "models": {"ours": {"recipe": {"epochs": 9}}}},
            {"epochs": 7},
            {"epochs": 9},
        ),
        ({"models": {"another": {"recipe": {"epochs": 9}}}}, {}, {"epochs": 2}),
        ({"recipe": {"name": "sgd"}}, {"peak_lr": 1.0}, {"optimizer": "sgd", "peak_lr": 0.2}),
        ({"recipe": {"epochs": 5}}, {"name": "sgd"}, {"optimizer": "sgd", "epochs": 5}),
    ],
    ids=["model", "data set", "both", "data set for the model", "another model", "name", "below"],
)
def test_the_data_set_speaks_over_the_model_and_a_name_takes_the_place_of_all_below(
    asking, digits, of_dataset, of_model, expected
):
    found = dataclasses.asdict(defaults.recipe(asking(of_dataset, of_model), digits))
    assert {name: found[name] for name in expected} == expected


def test_the_cells_own_recipe_takes_the_place_of_every_default(asking, digits):
    cell = asking({"recipe": {"epochs": 5}}, {"batch_size": 64})
    named = dataclasses.replace(cell, recipe="adamw", recipe_params={"min_steps": 10})
    assert defaults.recipe(named, digits) == Recipe(min_steps=10)


def test_images_are_mirrored_only_where_they_keep_their_class(digits):
    cell = Cell("digits", recipe="sgd")
    assert not defaults.recipe(cell, digits).flip
    assert defaults.recipe(cell, datasets.load("digits", flips=True)).flip


@pytest.mark.parametrize(
    ("of_dataset", "of_model", "complaint"),
    [
        ({"recipe": {"epohs": 5}}, {}, "recipe of data set 'theirs': recipe 'adamw' has no field "
         "'epohs' (did you mean epochs"),
        ({}, {"name": "sdg"}, "recipe of model 'ours': unknown recipe 'sdg' (did you mean sgd?)"),
        ({"models": {"ours": {"recipe": {"epochs": 0}}}}, {},
         "recipe of data set 'theirs' for 'ours': recipe 'adamw': epochs is more than 0"),
    ],
)  # fmt: skip
def test_a_wrong_default_is_one_line_that_says_whose(
    asking, digits, of_dataset, of_model, complaint
):
    with pytest.raises(BenchError) as caught:
        defaults.recipe(asking(of_dataset, of_model), digits)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_returns_something_else_is_one_line(asking):
    asking({}, {})
    recipe("hearsay")(lambda **_: {"epochs": 3})
    with pytest.raises(BenchError, match=r"^recipe 'hearsay' returns no Recipe but dict$"):
        defaults.build_recipe("hearsay", {})


def test_the_defenders_budget_is_the_data_sets(asking):
    asking({"clean": 25}, {})
    assert defaults.clean("theirs") == 25
    assert defaults.clean("digits") is None


def test_a_budget_of_nothing_is_refused(asking):
    asking({"clean": 0}, {})
    with pytest.raises(BenchError, match="clean = 0, expected a number from 1"):
        defaults.clean("theirs")
