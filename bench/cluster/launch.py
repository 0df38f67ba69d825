"""Hands one task to Ray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cluster import nodes, tasks
from bench.cluster.nodes import Node
from bench.cluster.order import Task
from bench.cluster.stock import Fetch
from bench.cluster.tasks import Surroundings
from bench.spec.job import VictimJob


@dataclass
class Running:
    """A task on a slot. ``answer``: what Ray gives of it; ``files``: of a training, its second
    result, the victim."""

    task: Task
    node: Node
    slot: int
    around: Surroundings
    began: float
    answer: Any = None
    files: Any = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def launched(
    task: Task,
    node: Node,
    slot: int,
    around: Surroundings,
    memory: int,
    rerun: bool,
    needs: Sequence[Fetch],
) -> Running:
    """Begun on that node. ``needs``: what fetches the victims of a cell."""
    options = nodes.placed(node.id, num_cpus=around.threads, num_gpus=node.gpus, memory=memory)
    leaves = node.all_gpus > 1  # a worker that has used one GPU would go on with that
    found = Running(task, node, slot, around, time.monotonic())
    if isinstance(task, VictimJob):
        train = nodes.remote(tasks.train, leaves=leaves).options(num_returns=2, **options)
        found.answer, found.files = train.remote(around, task.cell, task.identity)
    else:
        measure = nodes.remote(tasks.measure, leaves=leaves).options(**options)
        found.answer = measure.remote(around, task.cell, task.identity, rerun, list(needs))
    return found
