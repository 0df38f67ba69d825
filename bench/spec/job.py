"""A cell resolved: which victims it needs, its identity and key, where it is kept, what it takes.

Resolved once in a process (`bench.measure.resolve`) and handed on: whoever has the job computes no
identity. Jobs are plain values, so they travel to other processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.identity import Identity, key, victim_identity


@dataclass(frozen=True)
class VictimJob:
    """A victim to train or load. ``cell``: without a defense. ``path``: its ``.safetensors``."""

    cell: Cell
    workspace: Workspace
    identity: Identity
    key: str
    path: Path

    @property
    def is_trained(self) -> bool:
        """Whether the store holds it, without reading it: its JSON is written last."""
        return self.path.with_suffix(".json").exists()


@dataclass(frozen=True)
class Job:
    """A cell to measure, or to read from the cache.

    ``victim``: the one that is attacked. ``clean``: the same model without poison, which figures of
    attacks, repairs and trainings are taken on, too. ``other``: the same attack from the next seed,
    which an attack's own are. Each None where no figure is. ``path``: of its record in the cache.
    ``expected_s``: the seconds that it is expected to take beside its victims' training; None where
    nothing like it was measured.
    """

    cell: Cell
    workspace: Workspace
    victim: VictimJob
    clean: VictimJob | None
    other: VictimJob | None
    identity: Identity
    key: str
    path: Path
    expected_s: float | None = None

    @property
    def needs(self) -> list[VictimJob]:
        """The victims that must be there, the attacked one first."""
        return [v for v in (self.victim, self.clean, self.other) if v is not None]

    @property
    def is_measured(self) -> bool:
        """Whether the cache holds its record, without reading it."""
        return self.path.exists()


def victim_job(cell: Cell, workspace: Workspace) -> VictimJob:
    """The victim of a cell; its defense plays no part. Raises BenchError."""
    undefended = cell.undefended
    dataset = dataset_of(cell, workspace)
    recipe = defaults.recipe(cell, dataset)
    identity = victim_identity(undefended, dataset, recipe, workspace.torch_device())
    name = key(identity)
    return VictimJob(undefended, workspace, identity, name, victim_path(workspace.cache, name))


def victim_path(cache: Path, key: str) -> Path:
    """Where the cache keeps the victim of that key."""
    return cache / "victims" / f"{key}.safetensors"


def record_path(cache: Path, key: str) -> Path:
    """Where the cache keeps the record of that key."""
    return cache / "records" / f"{key}.json"
