"""The cells of a run, each resolved once."""

from __future__ import annotations

from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.estimates import Estimates
from bench.spec.job import Job
from fixtures.errors import BenchError


class Jobs:
    """Cell -> `Job`, resolved when it is first asked for."""

    def __init__(self, workspace: Workspace, estimates: Estimates) -> None:
        self.workspace = workspace
        self.estimates = estimates
        self._found: dict[Cell, Job | BenchError] = {}

    def of(self, cell: Cell) -> Job:
        """Raises BenchError, one line, for a plugin that cannot be built."""
        found = self._look_up(cell)
        if isinstance(found, BenchError):
            raise found
        return found

    def known(self, cell: Cell) -> Job | None:
        """None for what cannot be built: its own test will say so."""
        found = self._look_up(cell)
        return None if isinstance(found, BenchError) else found

    def _look_up(self, cell: Cell) -> Job | BenchError:
        if cell not in self._found:
            from bench.measure import resolve  # loads what measures, which a listing does not need

            try:
                self._found[cell] = resolve(cell, self.workspace, self.estimates)
            except BenchError as error:
                self._found[cell] = error
        return self._found[cell]
