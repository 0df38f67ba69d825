"""The data set that a cell is about, loaded from where the cell says that it lies."""

from __future__ import annotations

from collections.abc import Iterable

from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.parameters import PATH
from fixtures import datasets
from fixtures.datasets import Dataset
from fixtures.errors import BenchError


def dataset_of(cell: Cell, workspace: Workspace) -> Dataset:
    """Load and split it. Raises UnknownName or DataError, each one line."""
    params = dict(cell.dataset_params)
    if cell.dataset_path is not None:
        params[PATH] = cell.dataset_path
    return datasets.load(cell.dataset, workspace.data, **params)


def told_apart(cells: Iterable[Cell]) -> None:
    """Raise BenchError where two data sets of one run lie in different places under one id."""
    found: dict[str, str | None] = {}
    for cell in cells:
        path = found.setdefault(cell.data_name, cell.dataset_path)
        if path != cell.dataset_path:
            raise BenchError(
                f"--dataset: {path} and {cell.dataset_path} are both called {cell.data_name!r}: "
                f"tell them apart with {cell.dataset}+name=...+path=..."
            )
