"""pytest-xdist: workers share the cores, and each victim is one worker's affair.

A worker computes with as many threads as a serial run would, on its own share of the cores. That
is what keeps its figures equal to the last digit: the number of threads decides the order in which
PyTorch adds up, and it is part of a run's identity. Threads that wait must not spin then, or they
would take the core from the one they are waiting for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.settings import benchmark_selected

if TYPE_CHECKING:
    import pytest

    from bench.cell import Cell

WAITING_SLEEPS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For GNU's and LLVM's OpenMP; read once, when PyTorch is loaded."""


def group_by_victim(config: pytest.Config) -> None:
    """Make ``--dist loadgroup`` the mode of ``-n``, unless another one was asked for."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadgroup"


def group_of(cell: Cell) -> str:
    """Cells of one group attack the same victim, so the worker that trained it has it at hand."""
    from dataclasses import replace

    return replace(cell, defense="none", defense_params=()).id


class Controller:
    """What the controlling process does for its workers."""

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        self._workers = len(specs)
        if benchmark_selected(config):
            for name, value in WAITING_SLEEPS.items():
                os.environ.setdefault(name, value)  # the workers inherit it

    def pytest_configure_node(self, node: Any) -> None:
        number = int("".join(filter(str.isdigit, node.gateway.id)))
        node.workerinput["triggerbench_cores"] = share(cores(), number, self._workers)


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
