"""``python -m bench budgets``: what a data set's default clean budget follows from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from bench.runtime.workspace import Workspace
    from bench.spec.budget import Budget
    from bench.spec.cell import Cell

SEEDS = (101, 102, 103)
"""Seeds that no study runs: what is chosen on them is measured on others."""


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "budgets", help="what a fresh network reaches with so many clean images of each class"
    )
    command.add_argument("dataset", metavar="DATASET", help="its name, with parameters if any")
    command.add_argument("--model", default="simplecnn", help="Default: simplecnn")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--data-dir", type=Path, help="folder of the data sets")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.report.markdown import table
    from bench.runtime.workspace import Workspace
    from bench.spec import budget
    from bench.spec.cell import Cell
    from bench.spec.data import dataset_of
    from bench.spec.parameters import with_parameters

    try:
        (name, about), (model, built) = map(with_parameters, (options.dataset, options.model))
    except ValueError as error:
        raise BenchError(str(error)) from error
    cell = Cell(
        name, model, defense=_null(), dataset_params=about, model_params=built, split="validation"
    )
    workspace = Workspace(data=options.data_dir, device=options.device)
    dataset = dataset_of(cell, workspace)
    sizes = dataset.clean.labels.bincount(minlength=len(dataset.classes)).tolist()
    asked: list[Budget] = [*budget.available(sizes), budget.ALL]
    reached = {clean: _accuracies(cell, clean, workspace) for clean in asked}
    victim = reached[budget.ALL][0]
    rows = [
        {"clean images of each class": clean, "fresh network (%)": f"{100 * fresh:.2f}",
         "victim (%)": f"{100 * victim:.2f}", "under it": f"{100 * (victim - fresh):.2f}"}
        for clean, (_, fresh) in reached.items()
    ]  # fmt: skip
    print(table(rows))
    print()
    print(f"Mean accuracy on validation images, seeds {', '.join(map(str, SEEDS))}.")
    fresh = {clean: fresh for clean, (_, fresh) in reached.items() if isinstance(clean, int)}
    print(_said(budget.default(victim, fresh), sizes, dataset.classes))
    return 0


def _null() -> str:
    """The null repair that has the clean images and nothing else. Raises BenchError."""
    from bench.spec.cell import kind_of, sees
    from defenses import DEFENSES

    for name in DEFENSES.names():
        if DEFENSES[name].info.null and kind_of(name) == "repair" and sees(name) == "clean":
            return name
    raise BenchError("no null repair that sees the clean images alone is registered")


def _accuracies(cell: Cell, clean: Budget, workspace: Workspace) -> tuple[float, float]:
    """Of the victim and of the fresh network, mean over `SEEDS`."""
    import dataclasses

    from bench.analysis.statistics import estimate
    from bench.measure import run as measure

    found = [
        measure(dataclasses.replace(cell, clean=clean, seed=seed), workspace).metrics
        for seed in SEEDS
    ]
    victim, fresh = (
        estimate([metrics[name] for metrics in found]).mean
        for name in ("clean_accuracy_before", "clean_accuracy")
    )
    return victim, fresh


def _said(default: int | None, sizes: list[int], classes: tuple[str, ...]) -> str:
    """The rule's outcome, and which class has the fewest images."""
    fewest = min(range(len(sizes)), key=sizes.__getitem__)
    if default is None:
        return f"Default: all there are, at least {sizes[fewest]} of each class."
    said = f"Default: {default}, the largest at which the victim is worth repairing."
    if sizes[fewest] < default:
        said += f" Class {classes[fewest]} has {sizes[fewest]} and gives all of them."
    return said
