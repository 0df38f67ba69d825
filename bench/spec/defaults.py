"""What a data set changes of the plugins' own defaults: ``defaults.toml``, read and checked.

A data set that the file does not name may say the same where it is registered:
``@dataset("theirs", defaults={"recipe": {"min_steps": 300}, "attacks": {"poison_rate": 0.1}})``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacks import ATTACKS
from bench.runtime import files
from bench.spec.budget import ALL
from fixtures.datasets import DATASETS, Dataset
from fixtures.errors import BenchError
from fixtures.models import MODELS
from fixtures.recipes import RECIPES, Recipe
from fixtures.registry import did_you_mean
from fixtures.seeding import seeded

if TYPE_CHECKING:
    from bench.spec.cell import Cell

FILE = Path(__file__).with_name("defaults.toml")
USUAL = "adamw"
"""The recipe of what asks for none."""


def recipe(cell: Cell, dataset: Dataset) -> Recipe:
    """How a victim is trained: by the cell's recipe, else by what data set and model ask for.

    Four may speak: the model, the data set over it, the data set for this model over both, and the
    cell over all. Whoever names a recipe takes the place of all below; fields without a name change
    what is below. Mirrored images only where they keep their class. Raises BenchError, one line.
    """
    name, where, fields = USUAL, "", dict[str, Any]()
    for told, given in _asking(cell):
        if "name" in given:
            name, fields = given["name"], {}
        fields |= {field: value for field, value in given.items() if field != "name"}
        where = told if given else where
    try:
        found = build_recipe(name, fields)
    except BenchError as error:
        raise BenchError(f"{where}: {error}" if where else str(error)) from error
    return dataclasses.replace(found, flip=found.flip and dataset.flips)


def _asking(cell: Cell) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Who asks for a recipe, and with which fields, from below."""
    table = _of(cell.dataset)
    yield f"recipe of model {cell.model!r}", MODELS[cell.model].info.recipe
    yield f"recipe of data set {cell.dataset!r}", table.get("recipe", {})
    special = table.get("models", {}).get(cell.model, {}).get("recipe", {})
    yield f"recipe of data set {cell.dataset!r} for {cell.model!r}", special
    if cell.recipe:
        yield "", {"name": cell.recipe, **dict(cell.recipe_params)}


def build_recipe(name: str, fields: Mapping[str, Any]) -> Recipe:
    """The recipe of that name with other fields. Raises BenchError, one line, which says which."""
    factory = RECIPES[name].factory
    known = {field.name for field in dataclasses.fields(Recipe)}
    parameters = inspect.signature(factory).parameters.values()
    known |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    for field in fields:
        if field not in known:
            raise BenchError(
                f"recipe {name!r} has no field {field!r}{did_you_mean(field, sorted(known))}; "
                f"known: {', '.join(sorted(known))}"
            )
    try:
        found = factory(**fields)
    except (TypeError, ValueError) as error:
        raise BenchError(f"recipe {name!r}: {error}") from error
    if not isinstance(found, Recipe):
        raise BenchError(f"recipe {name!r} returns no Recipe but {type(found).__name__}")
    return found


def clean(dataset: str) -> int | None:
    """How many clean images of each class a defender has; None for all of the pool.

    Raises BenchError where the data set's defaults hold no such number.
    """
    found = _of(dataset).get("clean")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < 1):
        raise BenchError(f"defaults of {dataset}: clean = {found!r}, expected a number from 1")
    return found


def budget(cell: Cell) -> int | None:
    """How many clean images of each class the cell's defender has; None for all of the pool.

    Raises BenchError as `clean`.
    """
    if cell.clean is None:
        return clean(cell.dataset)
    return None if cell.clean == ALL else cell.clean


def of_attack(dataset: str, attack: str) -> dict[str, Any]:
    """Arguments that the data set gives an attack; none for one that poisons nothing."""
    given = dict(_of(dataset).get("attacks", {}))
    own = given.pop(attack, {})
    shared = {name: value for name, value in given.items() if not isinstance(value, dict)}
    return {**shared, **own} if shared and _own_rate(attack) else own


def arguments(
    dataset: str, attack: str, given: Mapping[str, Any] | Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    """What an attack is built with: what the data set asks for, and over it what was given."""
    return {**of_attack(dataset, attack), **dict(given)}


def poison_rate(dataset: str, attack: str) -> float | None:
    """What share of the training set an attack poisons by default; None if it cannot be built."""
    rate: float | None = of_attack(dataset, attack).get("poison_rate", _own_rate(attack))
    return rate


def _of(dataset: str) -> dict[str, Any]:
    table: dict[str, Any] = _read(FILE)
    if dataset in table or dataset not in DATASETS:
        return dict(table.get(dataset, {}))
    return {**DATASETS[dataset].info.defaults}


@lru_cache(maxsize=256)
def _own_rate(attack: str) -> float | None:
    try:
        with seeded(0):  # whoever asks keeps the random state that it had
            return float(ATTACKS.create(attack).poison_rate)
    except Exception:  # its own cells will say so
        return None


_read = lru_cache(maxsize=8)(files.read_toml)
