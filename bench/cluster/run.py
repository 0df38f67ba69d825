"""``pytest bench --executor ray``: what pytest is told of a run on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from bench.cluster import parcels
from bench.cluster.dispatch import Dispatch
from bench.cluster.nodes import Asked
from bench.cluster.tasks import Surroundings
from bench.harness.celltest import is_rerun
from bench.harness.settings import Settings, cell_id
from bench.spec.cell import Cell
from bench.store import records
from bench.store.records import Record
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from bench.harness.progress import Progress


class ClusterRun:
    """A plugin of pytest, and the executor that tests ask for their cells' records."""

    def __init__(self, settings: Settings, how: Asked, progress: Progress | None) -> None:
        self._settings = settings
        self._how = how
        self._progress = progress
        self._dispatch: Dispatch | None = None
        self._left = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Begin: the cells of the tests that are left, in their order."""
        settings = self._settings
        of_id = {cell.id: cell for cell in settings.cells}
        ids = dict.fromkeys(cell_id(item.nodeid) for item in session.items)
        known = (settings.jobs.known(of_id[id]) for id in ids if id in of_id)
        jobs = [job for job in known if job is not None]
        if not jobs:
            return
        reruns = {
            job.cell
            for job in jobs
            if is_rerun(settings, job.cell, records.path_of(job.cell, settings.results))
        }
        workspace = settings.jobs.workspace
        try:
            around = Surroundings(
                data=workspace.data,
                device=workspace.device,
                threads=torch.get_num_threads(),
                timeout=settings.cell_timeout,
                modules=self._modules(session.config),
            )
            dispatch = Dispatch(jobs, self._how, around, settings.jobs.estimates, reruns)
            dispatch.start()
        except BenchError as error:
            raise pytest.UsageError(str(error)) from None
        self._dispatch = dispatch
        if self._progress is not None:
            self._progress.workers = max(1, dispatch.slots)
            self._progress.learns = False  # a test waits, the dispatch knows what cells take

    def _modules(self, config: pytest.Config) -> list[parcels.Module]:
        names = [n for n in config.option.plugins or () if not n.startswith(("no:", "bench."))]
        found = (parcels.module(name) for name in names)
        return [one for one in found if one is not None]

    def record(self, cell: Cell, show: Callable[[str], None]) -> Record:
        """The record of a cell, once it has ended. Raises BenchError, one line."""
        assert self._dispatch is not None
        ended = self._dispatch.ended(cell, show)
        if ended.error:
            raise BenchError(ended.error)
        found = records.load(ended.path)
        return replace(found, cell=cell, reused=ended.reused)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._dispatch is not None:
            self._left = self._dispatch.stop()

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        if self._dispatch is None:
            return
        terminalreporter.section("cluster", sep="-")
        for line in self._dispatch.lines():
            terminalreporter.write_line(line)
        if self._left:
            cells = "1 cell" if self._left == 1 else f"{self._left} cells"
            terminalreporter.write_line(f"{cells} had not ended; what is done is kept")
