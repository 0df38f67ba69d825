"""One test for each cell: run it, save its record, and fail where a gate does not hold."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import pytest

from bench.analysis import gates
from bench.harness.progress import REUSED, TRAINED, VERDICT, Progress
from bench.harness.settings import Settings
from bench.harness.summary import RECORD
from bench.measure import run
from bench.runtime.child import server
from bench.runtime.deadline import CellTimeout, deadline
from bench.spec.cell import Cell
from bench.store import records
from bench.store.records import BadRecord, Record
from bench.victims.provide import provide
from fixtures.errors import BenchError
from fixtures.training import Progress as TrainingProgress


class Executor(Protocol):
    """Measures cells elsewhere, all of a run at once."""

    def record(self, cell: Cell, show: Callable[[str], None]) -> Record:
        """The record of a cell, once it is there. ``show``: is told how far the run is.

        Raises BenchError, one line.
        """


Benchmark = Any
"""pytest-benchmark's fixture, which carries no types."""


def judge(
    cell: Cell,
    settings: Settings,
    progress: Progress | None,
    benchmark: Benchmark,
    record_property: Callable[[str, object], None],
    executor: Executor | None = None,
) -> None:
    """Measure a cell through pytest-benchmark and tell what came of it.

    ``executor``: where it is measured elsewhere.

    A failure is one line, without a traceback: what, by how much, and where to look. A defense that
    does not apply skips the test, with its reason.
    """
    record, path = _measured(cell, settings, progress, benchmark, executor)
    benchmark.extra_info.update(
        cell=cell.id, reused=record.reused, **record.timings, **record.metrics
    )
    missed = [gate for gate in gates.judged([record]) if not gate.passed]
    alone = len(settings.seeds) == 1  # several seeds are judged by their mean, at the end
    trained = record.victim == "trained" and not record.reused
    told = {
        RECORD: str(path),
        VERDICT: gates.verdict([record]) if alone or record.not_applicable else "measured",
        REUSED: record.reused,
        TRAINED: record.timings["train_s"] if trained else 0.0,
        **record.metrics,
    }
    for name, value in told.items():
        record_property(name, value)
    if record.not_applicable:
        pytest.skip(f"not applicable: {record.not_applicable}")
    if missed and alone:
        lines = [f"{cell.id}: {gate}" for gate in missed]
        pytest.fail("\n".join([*lines, f"record: {path}"]), pytrace=False)


def _measured(
    cell: Cell,
    settings: Settings,
    progress: Progress | None,
    benchmark: Benchmark,
    executor: Executor | None,
) -> tuple[Record, Path]:
    path = records.path_of(cell, settings.results)
    rerun = is_rerun(settings, cell, path)
    # Should this attempt fail, an earlier one's record must not pass for it.
    path.unlink(missing_ok=True)
    try:
        if executor is not None:
            record = _elsewhere(cell, settings, progress, benchmark, executor)
        else:
            record = _here(cell, settings, progress, benchmark, rerun)
        record.command = settings.command
        return record, record.save(path)
    except BenchError as error:
        complaint = str(error)
    except CellTimeout:
        complaint = f"took longer than --cell-timeout {settings.cell_timeout:g} s"
    pytest.fail(f"{cell.id}: {complaint}", pytrace=False)


def _here(
    cell: Cell, settings: Settings, progress: Progress | None, benchmark: Benchmark, rerun: bool
) -> Record:
    show = None if progress is None else _shower(progress, cell)
    with deadline(settings.cell_timeout):
        if any(one.defense != "none" for one in settings.cells):
            server()  # takes seconds to be ready: meanwhile the first victim is trained
        job = settings.jobs.of(cell)
        if cell.defense != "none" and (rerun or not job.is_measured):
            provide(job.victim, progress=show)  # not part of defending's time
        record: Record = benchmark.pedantic(
            run, args=(job,), kwargs={"rerun": rerun, "progress": show}, rounds=1
        )
        return record


def _elsewhere(
    cell: Cell,
    settings: Settings,
    progress: Progress | None,
    benchmark: Benchmark,
    executor: Executor,
) -> Record:
    settings.jobs.of(cell)  # a plugin that cannot be built says so here
    show = (lambda _: None) if progress is None else progress.show
    record: Record = benchmark.pedantic(executor.record, args=(cell, show), rounds=1)
    return record


def is_rerun(settings: Settings, cell: Cell, path: Path) -> bool:
    """Whether ``--rerun`` asks for this cell to be measured again."""
    if settings.rerun in ("none", "all"):
        return settings.rerun == "all"
    if settings.rerun == "failed":
        try:
            return path.exists() and gates.verdict([records.load(path)]) == "fail"
        except BadRecord:
            return True
    return fnmatchcase(cell.id, settings.rerun)


def _shower(progress: Progress, cell: Cell) -> TrainingProgress:
    """Shows a training's epochs on the terminal."""

    def show(epoch: int, epochs: int, loss: float) -> None:
        progress.show(f"epoch {epoch}/{epochs} (loss {loss:.3f}) for {cell.id}")

    progress.show(cell.id)
    return show
