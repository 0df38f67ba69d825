"""What lies in the cluster for tasks that come: victims' files, and data sets that nodes lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.cluster import nodes, parcels
from bench.cluster.tally import Tally
from bench.cluster.tasks import Sent
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.job import Job, VictimJob
from bench.spec.parameters import PATH
from fixtures.errors import BenchError

LARGEST = 8 << 30
"""Bytes of a data set that is sent to nodes that lack it."""


KEPT_S = 120.0
"""Longer than that no victim's files are waited for: a run that ends would wait with them."""


class Fetch:
    """Fetches what lies in the cluster, where it is called."""

    def __init__(self, ref: Any) -> None:
        self._ref = [ref]  # nested, or Ray would fetch it before the task begins

    def __call__(self) -> Any:
        return nodes.library().get(self._ref[0])


class Stock:
    """A victim's files stay in the object store as long as a cell is left that needs them, and are
    written to the driver's cache, by a thread of their own."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._refs: dict[str, Any] = {}
        self._needed: Counter[str] = Counter()
        self._writer = ThreadPoolExecutor(1, "triggerbench-stock")

    def expect(self, jobs: Iterable[Job]) -> None:
        """These cells, and no others, need their victims."""
        self._needed = Counter(need.key for job in jobs for need in job.needs)

    def add(self, victim: VictimJob, ref: Any) -> None:
        """A victim was trained."""
        self._refs[victim.key] = ref
        self._writer.submit(self._keep, victim, ref)

    def _keep(self, victim: VictimJob, ref: Any) -> None:
        try:
            parcels.stored(victim, nodes.library().get(ref, timeout=KEPT_S))
        except BenchError as error:
            self._tally.note(f"not kept: {error}")
        except Exception:  # its node is gone, or too slow: it is trained again where it is needed
            return

    def of(self, victim: VictimJob) -> Fetch | None:
        """What fetches a victim's files, from the driver's cache where they lie there only; None
        where they are nowhere."""
        if victim.key not in self._refs:
            try:
                self._refs[victim.key] = nodes.library().put(parcels.packed(victim))
            except BenchError:
                return None
        return Fetch(self._refs[victim.key])

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

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.shutdown(wait=True, cancel_futures=False)


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
