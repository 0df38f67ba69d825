"""The end of a run: tables, the comparison with the baseline, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attacks import ATTACKS
from bench.analysis import baseline, gates
from bench.analysis.accepted import Accepted, accepted
from bench.analysis.baseline import Comparison
from bench.analysis.claims import counted, standings
from bench.analysis.completeness import NAMES
from bench.analysis.provenance import datasets_of, seeds_of
from bench.analysis.rows import rows
from bench.analysis.series import Measured, measured
from bench.harness.progress import Progress
from bench.harness.settings import Settings, cell_id
from bench.report import comparison, tables
from bench.report.write_up import WriteUp, write_up
from bench.spec.cell import Cell
from bench.store import records
from defenses import DEFENSES
from fixtures.errors import BenchError
from fixtures.models import MODELS

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


RECORD = "triggerbench_record"
"""The property that carries a record's path from the test, or its worker, to the summary."""


class Summary:
    """Gathers the records of this run, from here or from workers, and writes them up at the end."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._paths: list[Path] = []
        self._ran: set[str] = set()
        self._measured = measured([])
        self._comparisons: list[Comparison] = []
        self._missed: list[str] = []
        self._errors: list[str] = []
        self._written: WriteUp | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Under xdist, too, the reports of every test arrive here."""
        self._ran.add(cell_id(report.nodeid))
        if report.when == "call":
            found = [path for name, path in report.user_properties if name == RECORD]
            self._paths.extend(Path(str(path)) for path in found)

    @property
    def _asked(self) -> list[Cell]:
        """The cells that this run was to measure."""
        return [
            cell
            for cell in self._settings.cells
            if cell.id in self._ran or not self._settings.narrowed
        ]

    @cached_property
    def _asked_once(self) -> set[Cell]:
        """The same cells with seed 0, once the run is over."""
        return {replace(cell, seed=0) for cell in self._asked}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the run as a whole; what is told of it comes in `pytest_terminal_summary`."""
        if session.config.option.collectonly or not self._ran:
            return
        try:
            self._measured = measured(records.load(path) for path in self._paths)
            if len(self._settings.seeds) > 1:  # one seed is judged in its own test
                self._missed = _means_that_miss(self._measured)
            self._compare()
            if self._measured.series:
                self._written = write_up(self._measured, self._settings.results, self._asked)
        except BenchError as error:
            self._errors.append(str(error))
        bad = self._missed or self._errors or self._failing
        if bad and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _compare(self) -> None:
        before = self._settings.baseline
        if before is not None:
            after = accepted(self._measured)
            self._comparisons = baseline.compare(before, after, self._wanted)
            text = comparison.markdown(self._comparisons, strict=self._settings.strict)
            comparison.append_step_summary(text)

    @property
    def _failing(self) -> list[Comparison]:
        return baseline.failing(self._comparisons, strict=self._settings.strict)

    def _wanted(self, before: Accepted) -> bool:
        """Whether this run was to measure an accepted cell."""
        cell = Cell(**before.cell)
        if cell in self._asked_once:
            return True
        vanished = (
            cell.attack not in ATTACKS
            or cell.defense not in ("none", *DEFENSES.names())
            or cell.model not in MODELS
        )
        return (
            vanished
            and not self._settings.narrowed
            and all(
                any(fnmatchcase(getattr(cell, part), pattern) for pattern in patterns)
                for part, patterns in self._settings.patterns.items()
            )
        )

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: TerminalReporter, config: pytest.Config
    ) -> None:
        say = terminalreporter.write_line
        found = self._measured.records
        for kind, name in NAMES.items():
            table = tables.markdown(rows(self._measured, kind), brief=True)
            if table:
                title = f"{name}: {datasets_of(found)}"
                seeds = seeds_of(found)
                terminalreporter.section(f"{title}, seeds {seeds}", sep="-")
                say(table)
        if self._written is None and not self._errors and not self._comparisons:
            return
        terminalreporter.section("triggerbench", sep="-")
        if self._written is not None:
            where = _relative(self._settings.results, config)
            say(f"report    {_relative(self._written.report, config)}")
            say(f"tables    {where}: {', '.join(path.name for path in self._written.tables)}")
            say(f"figures   {where}: {len(self._written.figures)} PNG files")
            say(f"records   {where}/records: {len(found)} of this run")
        if said := counted(standings(self._measured)):
            say(f"claims    {said}")
        for line in self._missed:
            say(f"gate      {line}", red=True)
        lacking = len(self._asked) - len(found)
        if lacking:
            say(f"missing   {lacking} cells have no record, so no table: see FAILURES", red=True)
        left_out = self._progress.left_out()
        if left_out and self._written is not None:
            say(f"left out  {left_out}")
        for line in self._errors:
            say(f"error: {line}", red=True)
        if self._settings.baseline is not None and not self._errors:
            for line in comparison.lines(self._comparisons):
                say(f"baseline  {line}")
            verdict = comparison.verdict_line(self._comparisons, strict=self._settings.strict)
            say(f"verdict   baseline: {verdict}", red=bool(self._failing))


def _means_that_miss(found: Measured) -> list[str]:
    """With several seeds no single one fails its test: the gates are on their mean."""
    missed = []
    for series in found.series:
        failing = [gate for gate in gates.judged(series.records) if not gate.passed]
        seeds = seeds_of(series.records)
        missed += [f"{series.name}, mean of seeds {seeds}: {gate}" for gate in failing]
    return missed


def _relative(path: Path, config: pytest.Config) -> str:
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)
