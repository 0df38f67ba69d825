"""``run(cell)``: a pure function from a cell to its record, with no pytest in it."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

from bench.judge.attacks import judge_attack
from bench.judge.common import poison_counts
from bench.judge.defenses import judge_defense
from bench.runtime import files
from bench.runtime.contracts import blamed
from bench.runtime.environment import environment
from bench.runtime.workspace import Workspace, usual
from bench.spec.cell import Cell
from bench.spec.identity import Identity, cell_identity, key
from bench.store import records
from bench.store.records import BadRecord, Record
from bench.victims.provide import identity_of, victim
from defenses import DEFENSES
from fixtures.errors import BenchError
from fixtures.training import Progress


def run(
    cell: Cell,
    at: Workspace | None = None,
    *,
    rerun: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Measure one cell: train or load its victim, run its defense, judge, and return the record.

    A cell of the same identity that was measured before on this machine is read from the cache,
    unless ``rerun``. Nothing is written but the cache. Raises BenchError, each one line.
    """
    at = at or usual()
    cell.kind  # noqa: B018 - an unknown defense is an error before anything is trained
    record = None if rerun else cached(cell, at)
    if record is None:
        record = _measure(cell, at, progress)
        record.save(_cache_path(record.key, at))
    return record


def is_measured(cell: Cell, at: Workspace) -> bool:
    """Whether the cache holds the cell's record, without reading it. Raises nothing for a plugin
    that cannot be built: its own cell will say so."""
    try:
        return _cache_path(key(_identity(cell, at)), at).exists()
    except BenchError:
        return False


def cached(cell: Cell, at: Workspace) -> Record | None:
    """The cell's record, if it was measured before on this machine and nothing has changed since.

    A damaged one is named in a warning and set aside.
    """
    path = _cache_path(key(_identity(cell, at)), at)
    if not path.exists():
        return None
    try:
        return dataclasses.replace(records.load(path), reused=True)
    except BadRecord as error:
        files.set_aside(path)
        warnings.warn(f"set aside and measured anew: {error}", stacklevel=2)
        return None


def _identity(cell: Cell, at: Workspace) -> Identity:
    return cell_identity(cell, identity_of(cell, at))


def _cache_path(identity: str, at: Workspace) -> Path:
    return at.cache / "records" / f"{identity}.json"


def _measure(cell: Cell, at: Workspace, progress: Progress | None) -> Record:
    attacked = victim(cell, at, progress=progress)
    if cell.defense == "none":
        clean = other = None
        if attacked.poisoned.any():
            control = dataclasses.replace(cell, attack="none", attack_params=())
            clean = victim(control, at, progress=progress)
        if attacked.attack.learned:
            another = dataclasses.replace(cell, seed=cell.seed + 1)
            other = victim(another, at, progress=progress)
        found, costs, details = judge_attack(attacked, clean, other)
    else:
        with blamed(f"defense {cell.defense!r}"):
            defense = DEFENSES.create(cell.defense, **dict(cell.defense_params))
        found, costs, details = judge_defense(cell, attacked, defense)
    costs = {"train": attacked.training, **costs}
    identity = _identity(cell, at)
    return Record(
        cell=cell,
        key=key(identity),
        identity=identity,
        metrics=found,
        timings={f"{phase}_s": spent.seconds for phase, spent in costs.items()},
        memory={f"{phase}_mib": spent.peak_mib for phase, spent in costs.items()},
        environment=environment(at.torch_device()),
        victim="trained" if attacked.trained else "loaded",
        poison=poison_counts(attacked),
        details=details,
        kind=cell.kind,
    )
