"""What lies in the cluster for tasks that come: victims' files, and data sets that nodes lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from bench.cluster import nodes, parcels
from bench.cluster.parcels import Shipment
from bench.cluster.tasks import Sent
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.job import Job, VictimJob
from bench.spec.parameters import PATH

LARGEST = 8 << 30
"""Bytes of a data set that is sent to nodes that lack it."""


class Stock:
    """A victim's files stay in the object store as long as a cell is left that needs them."""

    def __init__(self) -> None:
        self._refs: dict[str, Any] = {}
        self._needed: Counter[str] = Counter()

    def expect(self, jobs: Iterable[Job]) -> None:
        """These cells will need their victims."""
        self._needed.update(need.key for job in jobs for need in job.needs)

    def add(self, victim: VictimJob, ref: Any) -> None:
        self._refs[victim.key] = ref

    def of(self, job: Job) -> list[Any]:
        """The files of all victims of a cell; from the driver's cache where they lie there only.

        Raises BenchError where they cannot be read.
        """
        for need in job.needs:
            if need.key not in self._refs:
                self._refs[need.key] = nodes.library().put(parcels.packed(need))
        return [self._refs[need.key] for need in job.needs]

    def doubt(self, job: Job) -> None:
        """They may have been lost with a node: the next cell gets them from the driver's cache."""
        for need in job.needs:
            self._refs.pop(need.key, None)

    def done(self, job: Job) -> None:
        """The cell has ended."""
        for need in job.needs:
            self._needed[need.key] -= 1
            if self._needed[need.key] <= 0:
                self._refs.pop(need.key, None)


def shipment(cell: Cell, workspace: Workspace) -> Sent | None:
    """The cell's data set, put into the cluster; None where it is too large for that."""
    dataset = dataset_of(cell, workspace)
    parts = (dataset.train, dataset.clean, dataset.validation, dataset.test)
    if sum(part.nbytes for part in parts) > LARGEST:
        return None
    params = dict(cell.dataset_params)
    if cell.dataset_path is not None:
        params[PATH] = cell.dataset_path
    return cell.dataset, params, Fetch(nodes.library().put(parcels.shipped(dataset)))


class Fetch:
    """Fetches what lies in the cluster, where it is called."""

    def __init__(self, ref: Any) -> None:
        self._ref = [ref]  # nested, or Ray would fetch it before the task begins

    def __call__(self) -> Shipment:
        found: Shipment = nodes.library().get(self._ref[0])
        return found
