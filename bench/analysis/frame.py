"""Records -> one long frame: a row for each record and metric. All analysis groups this frame."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import pandas as pd

from bench.analysis.trials import counted, trials_of
from bench.spec.cell import Cell, Flavour, Kind, level_of
from bench.store.records import Record

COLUMNS = [
    *("record", "dataset", "model", "attack", "defense", "cell"),
    *("kind", "seed", "series", "metric", "value", "trials"),
]


def long(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each record and metric, with the columns of `COLUMNS`.

    ``record``: its position in ``records``; the same record from two folders counts once.
    ``dataset``, ``model``, ``attack``, ``defense``: with their parameters, as tables show them, the
    model also with the recipe that was asked for. ``cell``: the id without the seed. ``series``:
    the key of all but the seed. ``trials``: see `bench.analysis.trials.trials_of`. A record without
    metrics, of a defense that is not applicable, has one row: its metric is ``""``, its value NaN.
    """
    rows, seen = [], set()
    for position, record in enumerate(records):
        about = _about(record)
        if (once := (*about, record.key)) not in seen:
            seen.add(once)
            figures = record.metrics or {"": float("nan")}
            numbers = counted(record, flavour(record.kind, record.metrics))
            rows += [
                (position, *about, name, float(value), trials_of(name, numbers))
                for name, value in figures.items()
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def in_order(records: Iterable[Record]) -> list[Record]:
    """By data set and model, then attacks from the plainest to the stealthiest."""

    def place(record: Record) -> tuple[Any, ...]:
        cell = record.cell
        rate = float(dict(cell.attack_params).get("poison_rate", 0.0))
        return *study_of(cell), level_of(cell.attack), cell.attack, rate, cell.defense, cell.seed

    return sorted(records, key=place)


def flavour(kind: Kind, metrics: Container[str]) -> Flavour:
    """What was judged, by what was measured: plugins may be gone by now."""
    if kind == "training":
        return "certified" if "certified_accuracy" in metrics else "training"
    if kind != "detection":
        return kind
    if "verdict_correct" in metrics:
        return "model"
    return "samples" if "false_labels" in metrics else "inputs"


def study_of(cell: Cell) -> tuple[str, str]:
    """Data set and model as tables show them: ``folder name=birds``, ``vit depth=6 @sgd epochs=3``.

    A recipe that was asked for makes another study.
    """
    model = with_params(cell.model, cell.model_params)
    if cell.recipe:
        model += f" @{with_params(cell.recipe, cell.recipe_params)}"
    return with_params(cell.dataset, cell.dataset_params), model


def with_params(name: str, params: Any) -> str:
    """``pixel poison_rate=0.1``."""
    return name + "".join(f" {key}={value}" for key, value in params)


def _defended(cell: Cell) -> str:
    """The defense as tables show it, with the clean budget that was asked for."""
    given = cell.defense_params
    return with_params(
        cell.defense, given if cell.clean is None else (*given, ("clean", cell.clean))
    )


def _about(record: Record) -> tuple[Any, ...]:
    """The columns of `COLUMNS` from ``dataset`` to ``series``."""
    cell = record.cell
    return (
        *study_of(cell),
        with_params(cell.attack, cell.attack_params),
        _defended(cell),
        cell.name,
        record.kind,
        cell.seed,
        record.series,
    )
