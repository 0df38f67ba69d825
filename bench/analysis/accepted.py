"""What was accepted: a baseline, and the file that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.analysis.series import Measured, Series, measured, mixed
from bench.analysis.statistics import Estimate
from bench.runtime import files
from bench.spec.cell import Cell, Kind
from bench.spec.identity import Identity, without
from bench.store import records
from fixtures.errors import BenchError

SCHEMA = 1


@dataclass(frozen=True)
class Accepted:
    """One cell over its seeds. ``identity``: all that shaped it, less the seed."""

    cell: dict[str, Any]
    kind: Kind
    seeds: list[int]
    identity: Identity
    command: str
    commit: str | None
    metrics: dict[str, Estimate]


def accepted(found: Measured) -> dict[str, Accepted]:
    """Cell without seed -> its figures; none of a cell whose defense is not applicable.

    Raises BenchError for records that must not be averaged.
    """
    if several := mixed(found.series):
        name, differing = next(iter(several.items()))
        raise BenchError(
            f"{name}: its records are of different identity ({', '.join(differing)}); "
            "measure all its seeds again with one version"
        )
    return {series.name: _accept(series) for series in found.series if not series.not_applicable}


def _accept(series: Series) -> Accepted:
    applicable = [record for record in series.records if not record.not_applicable]
    first = min(applicable, key=lambda record: record.cell.seed)
    return Accepted(
        cell={name: value for name, value in first.cell.to_json().items() if name != "seed"},
        kind=first.kind,
        seeds=sorted(record.cell.seed for record in applicable),
        identity=without(first.identity, "seed"),
        command=first.command,
        commit=first.environment.get("commit"),
        metrics={
            name: figure for name, figure in series.figures.items() if figure.n == len(applicable)
        },
    )


def save(path: Path, cells: Mapping[str, Accepted]) -> Path:
    """Write a baseline: one JSON file, its cells in alphabetical order, so that its diff reads."""
    content = {
        "schema": SCHEMA,
        "cells": {name: asdict(cells[name]) for name in sorted(cells)},
    }
    return files.write(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def load(path: Path) -> dict[str, Accepted]:
    """A baseline file, or the records of a results folder. Raises BenchError that names it."""
    if path.is_dir():
        return accepted(measured(records.load_all(path)))
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise BenchError(f"{path}: schema {content['schema']}, this version reads {SCHEMA}")
        return {name: _parse(cell) for name, cell in content["cells"].items()}
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not a baseline ({type(error).__name__}: {error})") from error


def _parse(content: dict[str, Any]) -> Accepted:
    metrics = {name: Estimate(**figure) for name, figure in content["metrics"].items()}
    for name, figure in metrics.items():
        numbers = [figure.mean, *([] if figure.spread is None else [figure.spread])]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"{name}: its mean and spread are no numbers")
        if figure.n < 1 or (figure.spread is None) != (figure.n == 1):
            raise ValueError(f"{name}: a spread of {figure.spread} over {figure.n} seeds")
        if figure.trials is not None and figure.trials < 0:
            raise ValueError(f"{name}: {figure.trials} trials")
    if not all(
        isinstance(group, dict) for group in [content["identity"], *content["identity"].values()]
    ):
        raise TypeError("a cell's identity is no mapping of mappings")
    cell = Cell(**content["cell"]).to_json()  # what an older baseline leaves out was not given
    del cell["seed"]
    return Accepted(**{**content, "cell": cell, "metrics": metrics})
