"""What a data set changes of the plugins' own defaults: ``defaults.toml``, read and checked.

A data set that the file does not name may say the same where it is registered:
``@dataset("theirs", defaults={"recipe": {"min_steps": 300}, "attacks": {"poison_rate": 0.1}})``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from attacks import ATTACKS
from bench.runtime import files
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError
from fixtures.training import Recipe

FILE = Path(__file__).with_name("defaults.toml")


def recipe(dataset: str) -> Recipe:
    """How victims on this data set are trained. Raises BenchError for a field no recipe has."""
    given = _of(dataset).get("recipe", {})
    try:
        return dataclasses.replace(Recipe(), **given)
    except TypeError as error:
        raise BenchError(f"defaults of {dataset}: recipe: {error}") from error


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
    return dict(DATASETS[dataset].info.defaults)


@lru_cache(maxsize=256)
def _own_rate(attack: str) -> float | None:
    try:
        return float(ATTACKS.create(attack).poison_rate)
    except Exception:  # its own cells will say so
        return None


_read = lru_cache(maxsize=8)(files.read_toml)
