"""pytest-xdist: workers share the cores, and the schedule says who runs which cell next.

A worker computes with as many threads as a serial run would, on its own share of the cores. That
is what keeps its figures equal to the last digit: the number of threads decides the order in which
PyTorch adds up, and it is part of a run's identity. Threads that wait must not spin then, or they
would take the core from the one they are waiting for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.harness.settings import Settings, benchmark_selected, cell_id
from bench.runtime import waiting

CORES = "triggerbench_cores"
"""What the controller hands to a worker."""

CHOSEN = pytest.StashKey[bool]()
"""Whether how tests are distributed is ours to choose."""

AHEAD = 2
"""Tests that a worker holds: pytest starts one only when it knows the next."""


def choose_mode(config: pytest.Config) -> None:
    """``-n`` alone takes the schedule; a mode of ``--dist`` that was asked for stands. Without
    ``-n`` each thread has a core, here and on a cluster that is started here and inherits it."""
    option = config.option
    if getattr(option, "numprocesses", None):
        if option.dist == "no" and not option.distload:
            option.dist = "load"
            config.stash[CHOSEN] = True
    elif not hasattr(config, "workerinput"):
        waiting.wait(waiting.BRIEFLY, os.environ)


class Controller:
    """What the controlling process does for its workers. ``settings``: of the run, once read."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        self._workers = len(specs)
        if benchmark_selected(config):
            waiting.wait(waiting.NOT_AT_ALL, os.environ)  # the workers inherit it

        self._started = 0

    def pytest_configure_node(self, node: Any) -> None:
        # Counted on where one replaces a worker that crashed.
        node.workerinput[CORES] = share(cores(), self._started % self._workers, self._workers)
        self._started += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        if not config.stash.get(CHOSEN, False):
            return None
        return scheduling(config, log, self._settings())


def scheduling(config: pytest.Config, log: Any, settings: Settings) -> Any:
    """xdist's scheduler, which asks the benchmark's schedule for the next test of each worker."""
    from xdist.scheduler import LoadScheduling

    from bench.harness.schedule import Schedule
    from bench.spec.cell import Cell
    from bench.spec.job import Job

    class ByVictim(LoadScheduling):  # type: ignore[misc]
        """``jobs``: by the index of their test in the collection; other tests have none."""

        collection: list[str] | None
        jobs: dict[int, Job]
        index: dict[Cell, int]
        order: Schedule

        def schedule(self) -> None:
            if self.collection is None:
                if not self._check_nodes_have_same_collection():
                    return
                tests = self.collection = next(iter(self.node2collection.values()))
                self.pending[:] = range(len(tests))
                known = {cell.id: settings.jobs.known(cell) for cell in settings.cells}
                found = [(at, known.get(cell_id(test))) for at, test in enumerate(tests)]
                self.jobs = {at: job for at, job in found if job is not None}
                self.index = {job.cell: at for at, job in self.jobs.items()}
                self.order = Schedule(self.jobs.values(), longest_first=True)
            self.fill()

        def check_schedule(self, node: Any, duration: float = 0) -> None:  # noqa: ARG002
            self.fill()  # what has ended may be what another worker waits for

        def fill(self) -> None:
            for held in range(AHEAD):  # a first test for everybody before anybody's second
                for node in self.nodes:
                    if len(self.node2pending[node]) > held or node.shutting_down:
                        continue
                    at = self.choose(node)
                    if at is not None:
                        self.pending.remove(at)
                        self.node2pending[node].append(at)
                        node.send_runtest_some([at])
            if not self.pending:
                for node in self.nodes:
                    if not node.shutting_down:
                        node.shutdown()

        def choose(self, node: Any) -> int | None:
            """The next test of a worker. None leaves it idle, which one that holds a test cannot
            be: it would not start that."""
            job = self.order.next(node, blocked=bool(self.node2pending[node]))
            if job is not None:
                return self.index[job.cell]
            return next((at for at in self.pending if at not in self.jobs), None)

        def mark_test_pending(self, item: str) -> None:
            at = (self.collection or []).index(item)
            if at in self.jobs:
                self.order.again(self.jobs[at])
            self.pending.insert(0, at)
            self.fill()

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            if item_index in self.jobs:
                self.order.done(self.jobs[item_index])
            super().mark_test_complete(node, item_index, duration)

        def remove_node(self, node: Any) -> Any:
            for place, at in enumerate(self.node2pending[node]):
                if at in self.jobs:  # the first is the one that it ran when it crashed
                    (self.order.again if place else self.order.done)(self.jobs[at])
            return super().remove_node(node)

    return ByVictim(config, log)


def cores() -> list[int]:
    """The cores this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def share(available: list[int], number: int, workers: int) -> list[int]:
    """Worker ``number``'s part of the cores; with more workers than cores, one each, shared."""
    if workers >= len(available):
        return [available[number % len(available)]] if available else []
    begin, end = (len(available) * k // workers for k in (number, number + 1))
    return available[begin:end]


def keep_to(mine: list[int]) -> None:
    """Keep this process, with all threads it has, to some cores, and its number of threads."""
    import numpy  # noqa: F401 - whatever counts cores has counted them before they are taken away
    import sklearn.cluster  # noqa: F401
    import torch

    torch.set_num_threads(torch.get_num_threads())
    if not mine or not hasattr(os, "sched_setaffinity"):
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), mine)
        except ProcessLookupError:  # it has just ended
            continue
