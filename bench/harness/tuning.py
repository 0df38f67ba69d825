"""The cells that a defense is tuned by, judged on validation images, and measuring them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.sensitivity import OTHERS
from bench.harness import selection
from bench.harness.budgets import parse as parse_budgets
from bench.harness.jobs import Jobs
from bench.harness.schedule import in_order
from bench.harness.settings import parse_seeds
from bench.measure import run
from bench.runtime.workspace import Workspace
from bench.spec import estimates, grids, suites
from bench.spec.budget import Budget
from bench.spec.cell import Cell, cross, flavour_of, level_of
from bench.spec.data import dataset_of
from bench.spec.grids import Grid
from bench.spec.parameters import defaults_of
from bench.store.records import Record
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError
from fixtures.models import MODELS
from fixtures.registry import Registry

ATTACKS = 3
"""Attacks of a grid, at most."""


@dataclass(frozen=True)
class Tuning:
    """A grid, and the victims that it is tried on. ``budgets``: one, or none for the default."""

    grid: Grid
    dataset: str
    model: str
    attacks: Sequence[str]
    seeds: Sequence[int]
    budgets: Sequence[Budget] = ()

    @property
    def cells(self) -> list[Cell]:
        """The defense at every setting, and `others` as they are."""
        own = [
            replace(cell, defense_params=setting)
            for cell in self._against([self.grid.defense])
            for setting in self.grid.settings
        ]
        return [*own, *self._against(others(self.grid.defense))]

    def _against(self, defenses: Sequence[str]) -> list[Cell]:
        found = cross(
            *([self.dataset], [self.model], self.attacks, defenses, self.seeds),
            budgets=self.budgets,
        )
        return [replace(cell, split="validation") for cell in found]


def asked(
    defense: str,
    *,
    params: Sequence[str],
    dataset: str,
    model: str,
    attack: str | None,
    seeds: str,
    clean: str | None,
) -> Tuning:
    """What the options ask for, each as its text. Raises BenchError that names the option."""
    if defense not in DEFENSES:
        raise BenchError(f"tune: {DEFENSES.unknown(defense)}")
    if flavour_of(defense) == "model":
        raise BenchError(
            f"tune: {defense} is judged by one verdict a model, and the models of a grid are too "
            "few to tell its settings apart"
        )
    grid = grids.given(defense, params) if params else grids.declared(defense)
    if grid is None:
        known = ", ".join(defaults_of(DEFENSES[defense].factory)) or "none"
        raise BenchError(
            f"tune: {defense} declares no grid: give one with --param NAME=V1,V2,V3; its "
            f"parameters: {known}"
        )
    attacks = study_attacks() if attack is None else selection.attacks("--attack", attack)
    if len(attacks) > ATTACKS:
        raise BenchError(f"--attack: {', '.join(attacks)}: at most {ATTACKS} attacks")
    if "none" in attacks:
        raise BenchError("--attack: none: on a clean model there is nothing to find or to repair")
    budgets = parse_budgets(clean)
    if len(budgets) > 1:
        raise BenchError(f"--clean: {clean}: a grid is of one budget")
    return Tuning(
        grid=grid,
        dataset=_one("--dataset", dataset, DATASETS),
        model=_one("--model", model, MODELS),
        attacks=attacks,
        seeds=parse_seeds(seeds),
        budgets=budgets,
    )


def _one(option: str, text: str, registry: Registry[Any, Any]) -> str:
    found = selection.matching(option, text, registry)
    if len(found) > 1:
        raise BenchError(f"{option}: {', '.join(found)}: a grid is of one")
    return found[0]


def study_attacks() -> list[str]:
    """The plainest attacks of the study, as many as a grid may have."""
    (study,) = suites.named(suites.STUDY)
    names = selection.attacks(str(study.path), study.attacks)
    return sorted((name for name in names if name != "none"), key=level_of)[:ATTACKS]


def others(defense: str) -> list[str]:
    """Defenses of its flavour in the study, nulls among them; in all suites if those are few."""
    for suite in suites.named(f"{suites.STUDY},{suites.EVERYTHING}"):
        found = [
            name
            for name in selection.defenses(str(suite.path), suite.defenses)
            if name not in ("none", defense)
            and "+" not in name
            and flavour_of(name) == flavour_of(defense)
        ]
        if len(found) >= OTHERS:
            break
    return found


def measure(
    cells: Sequence[Cell],
    workspace: Workspace,
    results: Path,
    command: str,
    say: Callable[[str], None],
) -> list[Record]:
    """Measure what the cache does not hold, and write every record into ``results/records/``.

    A line for each cell. One that fails is told in its line and has no record.
    """
    dataset_of(cells[0], workspace)  # missing or damaged: told once, before anything runs
    jobs = Jobs(workspace, estimates.load(workspace.cache))
    found: list[Record] = []
    ordered = in_order(jobs.of(cell) for cell in cells)
    for at, job in enumerate(ordered, start=1):
        line = f"{at}/{len(ordered)} {job.cell.id}: "
        try:
            record = run(job)
        except BenchError as error:
            say(line + str(error))
            continue
        record.command = command
        record.save(record.path(results))
        found.append(record)
        say(line + (record.not_applicable or ("from the cache" if record.reused else "measured")))
    return found
