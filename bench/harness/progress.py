"""What a run tells while it goes on: cells done, time left, and what came of the cell just ended.

On a terminal a line for each cell and one below that is overwritten; elsewhere a line every half
minute at most. With ``-v`` pytest's own lines carry the figures, with ``-q`` nothing is added.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from bench.harness.settings import Settings, cell_id
from bench.spec import estimates
from bench.spec.cell import Cell
from bench.spec.job import Job
from bench.spec.metrics import METRICS, took

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

VERDICT, TRAINED, REUSED = "triggerbench_verdict", "triggerbench_trained_s", "triggerbench_reused"
"""Properties of a test: how its gates came out, seconds of training in it, and whether its record
came from the cache."""

REPORTED = {"passed": (".", "PASSED"), "failed": ("F", "FAILED"), "skipped": ("s", "SKIPPED")}

EVERY_S = 30.0
"""Without a terminal, seconds between two lines at least."""

MANY, FEW_S = 500, 5.0
"""From so many cells on, seconds for which what was said of the time left is said again."""

HEADLINES = (
    ("clean_accuracy", "asr_before", "asr"),
    ("clean_accuracy", "asr"),
    ("f1", "fpr"),
    ("verdict_correct", "target_found"),
    ("auroc", "tpr_at_5_fpr"),
    ("verdict_correct",),
    ("fpr",),
)
"""The figures to show: of the first row that was measured whole."""


class Progress:
    """Listens to the reports of all tests, also of those that workers run.

    ``workers``: cells that run at a time. ``learns``: whether a test takes as long as its cell.
    """

    learns = True

    def __init__(self, settings: Settings, config: pytest.Config) -> None:
        self._settings = settings
        self._config = config
        self._reporter: TerminalReporter = config.pluginmanager.getplugin("terminalreporter")
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self.workers = int(getattr(config.option, "numprocesses", None) or 1)
        self._estimates = settings.jobs.estimates
        self._cells: dict[str, Cell] = {}
        self._cached: set[str] = set()
        self._ready: set[str] = set()
        self._done: set[str] = set()
        self._began = self._told = time.monotonic()
        self._line = False
        self._left, self._left_at = "", 0.0
        verbosity = config.get_verbosity()
        self._plain = verbosity == 0
        self._tells = verbosity >= 0 and not config.option.collectonly
        self._terminal = self._tells and self._reporter.isatty and sys.stdout is not None
        if self._plain and self._tells:
            # Our lines stand for the file names, dots and percentages of a plain run.
            self._reporter.showfspath = False
            self._reporter._show_progress_info = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._find({cell_id(item.nodeid) for item in session.items})

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:  # noqa: ARG002
        self._find({cell_id(id) for id in ids})

    def _find(self, ids: set[str]) -> None:
        """Which cells will run, and which of them and of their victims are there already."""
        if self._cells or self._config.option.collectonly:
            return
        self._cells = {cell.id: cell for cell in self._settings.cells if cell.id in ids}
        for job in self._jobs(self._cells.values()):
            if self._settings.rerun == "none" and job.is_measured:
                self._cached.add(job.key)
            if job.victim.is_trained:
                self._ready.add(job.victim.key)

    def _jobs(self, cells: Iterable[Cell]) -> list[Job]:
        """Without those of plugins that cannot be built: they take no time."""
        return [job for job in map(self._settings.jobs.known, cells) if job is not None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        cell = self._cells.get(cell_id(report.nodeid))
        if cell is None or report.when != "call" or not self._tells:
            return None
        letter, word = REPORTED[report.outcome]
        if report.passed:
            word = f"{word} {headline(cell, dict(report.user_properties))}".strip()
        return report.outcome, "" if self._plain else letter, word

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = self._cells.get(cell_id(report.nodeid))
        if cell is None or report.when != "call":
            return
        told = dict(report.user_properties)
        self._learn(cell, report.duration, told)
        self._done.add(cell.id)
        if not self._plain:
            return
        verdict = told.get(VERDICT, "failed")  # without a record there is no other word for it
        text = f"{len(self._done):{len(str(len(self._cells)))}}/{len(self._cells)}  {verdict:9}  "
        text += f"{cell.id}  {headline(cell, told)}"
        if self._terminal:
            self._clear()
            self._write(f"{text}\n", red=report.failed)
            self.show("")
        elif time.monotonic() - self._told >= EVERY_S:
            self._told = time.monotonic()
            self._write(f"{text}  {self.left()}\n")

    def _learn(self, cell: Cell, duration: float, told: dict[str, Any]) -> None:
        job = self._settings.jobs.known(cell)
        if job is None or REUSED not in told or told[REUSED] or not self.learns:
            return
        victim, trained = job.victim.key, float(told.get(TRAINED, 0.0))
        if victim in self._ready or trained == 0:
            trained = 0.0
        else:
            self._estimates.learn(estimates.victim_task(cell), trained)
        self._estimates.learn(estimates.cell_task(cell), max(0.0, duration - trained))
        self._ready.add(victim)

    def left(self) -> str:
        """The time that is left, as people say it; nothing where nothing is known of it.

        Of many cells it is worked out every few seconds only.
        """
        if len(self._cells) < MANY or time.monotonic() - self._left_at > FEW_S:
            self._left, self._left_at = self._left_now(), time.monotonic()
        return self._left

    def _left_now(self) -> str:
        rest = [cell for cell in self._cells.values() if cell.id not in self._done]
        seconds = self._estimates.total(self._jobs(rest), done=self._cached, ready=self._ready)
        if seconds is None and self._done:  # a plugin nobody has timed: as the others on average
            seconds = (time.monotonic() - self._began) / len(self._done) * len(rest)
            seconds *= self.workers
        if seconds is None or not rest:
            return ""
        return f"about {estimates.clock(seconds / self.workers)} left"

    def show(self, doing: str) -> None:
        """On a terminal, the line below: how far the run is, and what it is doing."""
        if self._terminal and len(self._done) < len(self._cells):
            parts = [f"{len(self._done)} of {len(self._cells)} cells", self.left(), doing]
            text = ", ".join(part for part in parts if part)
            width = self._reporter._tw.fullwidth - 1
            self._write(f"\r  {text}"[:width] + "\x1b[K")
            self._line = True

    def _clear(self) -> None:
        if self._line:
            self._write("\r\x1b[K")
            self._line = False

    def _write(self, text: str, **markup: bool) -> None:
        with self._capture.global_and_fixture_disabled():
            self._reporter.write(text, flush=True, **markup)

    def pytest_sessionfinish(self) -> None:
        self._clear()
        if self._done:
            estimates.save(self._settings.jobs.workspace.cache, self._estimates)

    def left_out(self) -> str:
        """One line: what of everything this run did not measure, its time, and the command."""
        everything = self._settings.everything
        rest = [cell for cell in everything if cell.id not in self._cells]
        if not rest:
            return ""
        jobs = self._jobs(rest)
        seconds = self._estimates.total(
            jobs,
            done={job.key for job in jobs if job.is_measured},
            ready=self._ready | {job.victim.key for job in jobs if job.victim.is_trained},
        )
        takes = "" if seconds is None else f", {estimates.clock(seconds)} here"
        return (
            f"{len(rest)} of {len(everything)} cells of everything{takes}: "
            f"{self._settings.whole_command}"
        )


def headline(cell: Cell, figures: Mapping[str, Any]) -> str:
    """The figures that say most, ``clean accuracy 98.6 %, ASR 99.7 %``; empty where none are."""
    for names in HEADLINES:
        if all(name in figures for name in names):
            break
    else:
        return ""
    parts = []
    for name in names:
        metric = METRICS[name]
        unit = f" {metric.unit}" if metric.unit else ""
        parts.append(f"{metric.title} {metric.show(float(figures[name]))}{unit}")
    if not took(cell.attack, figures):
        parts.append("the attack did not take")
    return ", ".join(parts)
