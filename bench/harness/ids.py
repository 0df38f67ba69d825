"""A cell's id, read back: what a test on the command line names."""

from __future__ import annotations

import re
from typing import Any

from attacks import ATTACKS
from bench.spec import budget
from bench.spec.cell import Cell
from bench.spec.parameters import with_parameters
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.models import MODELS
from fixtures.recipes import RECIPES
from fixtures.registry import Registry


def cell_of(id: str) -> Cell | None:
    """The cell that an id names, ``mnist-simplecnn-pixel+size=0.2-anp-c10-s0``; None where none.

    An id whose parameters are a hash cannot be read back: give them with the options. Nor is one
    of a cell that is judged on validation images, which no test measures.
    """
    *parts, seed = id.split("-")
    clean = budget.read(parts[-1]) if len(parts) == 5 else None
    if clean is not None:
        parts.pop()
    if len(parts) not in (3, 4) or not re.fullmatch(r"s\d+", seed):
        return None
    built, _, recipe = parts[1].partition("@")
    texts = [parts[0], built, recipe, *parts[2:], "none"][:5]
    try:
        read = [with_parameters(text) for text in texts]
    except ValueError:
        return None
    (dataset, about), (model, built_with), (how, fields), (attack, params), (defense, more) = read
    asked: list[tuple[Registry[Any, Any], str]] = [
        (DATASETS, dataset),
        (MODELS, model),
        (ATTACKS, attack),
        *([(RECIPES, how)] if how else []),
        *([(DEFENSES, defense)] if len(parts) == 4 else []),
    ]
    if not all(name in registry for registry, name in asked) or (fields and not how):
        return None
    cell = Cell(
        dataset=dataset,
        model=model,
        attack=attack,
        defense=defense,
        seed=int(seed[1:]),
        attack_params=params,
        defense_params=more,
        model_params=built_with,
        dataset_params=about,
        recipe=how,
        recipe_params=fields,
        clean=clean,
    )
    return cell if cell.id == id else None
