"""pytest-xdist: workers share the cores, and each victim is one worker's affair.

A worker computes with as many threads as a serial run would, on its own share of the cores. That
is what keeps its figures equal to the last digit: the number of threads decides the order in which
PyTorch adds up, and it is part of a run's identity. Threads that wait must not spin then, or they
would take the core from the one they are waiting for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bench.harness.settings import benchmark_selected

WAITING_SLEEPS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For GNU's and LLVM's OpenMP; read once, when PyTorch is loaded."""

CORES = "triggerbench_cores"
"""What the controller hands to a worker."""

CHOSEN = pytest.StashKey[bool]()
"""Whether how tests are distributed is ours to choose."""


def choose_mode(config: pytest.Config) -> None:
    """``-n`` alone groups tests by victim; a mode of ``--dist`` that was asked for stands."""
    option = config.option
    if getattr(option, "numprocesses", None) and option.dist == "no" and not option.distload:
        option.dist = "loadscope"
        config.stash[CHOSEN] = True


class Controller:
    """What the controlling process does for its workers."""

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        self._workers = len(specs)
        if benchmark_selected(config):
            for name, value in WAITING_SLEEPS.items():
                os.environ.setdefault(name, value)  # the workers inherit it

        self._started = 0

    def pytest_configure_node(self, node: Any) -> None:
        # Counted on where one replaces a worker that crashed.
        node.workerinput[CORES] = share(cores(), self._started % self._workers, self._workers)
        self._started += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        if not config.stash.get(CHOSEN, False):
            return None
        from xdist.scheduler import LoadScopeScheduling

        class ByVictim(LoadScopeScheduling):  # type: ignore[misc]
            """The worker that has trained a victim runs the defenses on it."""

            def _split_scope(self, nodeid: str) -> str:
                return victim_of(nodeid)

        return ByVictim(config, log)


def victim_of(nodeid: str) -> str:
    """``bench/test_repair.py::test_repair[digits-simplecnn-pixel-fine_pruning-s0]`` and every other
    test of that victim -> ``digits-simplecnn-pixel-s0``.
    """
    cell = nodeid.partition("[")[2].rpartition("]")[0]
    head, _, seed = cell.rpartition("-")
    return "-".join([*head.split("-")[:3], seed]) if head else nodeid


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
