"""Hands one task to Ray."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.cluster import nodes, tasks
from bench.cluster.nodes import Node
from bench.cluster.order import Task
from bench.cluster.stock import Stock
from bench.cluster.tasks import Surroundings
from bench.spec.job import VictimJob


@dataclass
class Running:
    """A task on a slot. ``answer``: what Ray gives of it; ``files``: of a training, its second
    result, the victim. ``late``: its worker was told to end."""

    task: Task
    node: Node
    slot: int
    around: Surroundings
    began: float
    answer: Any = None
    files: Any = None
    late: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def launched(
    task: Task,
    node: Node,
    slot: int,
    around: Surroundings,
    stock: Stock,
    memory: float,
    rerun: bool,
) -> Running:
    """Begun on that node. Raises BenchError where a stored victim cannot be read."""
    ray = nodes.library()
    options = nodes.placed(node.id, num_cpus=around.threads, num_gpus=node.gpus, memory=int(memory))
    found = Running(task, node, slot, around, time.monotonic())
    if isinstance(task, VictimJob):
        train = ray.remote(tasks.train).options(num_returns=2, **options)
        found.answer, found.files = train.remote(around, task.cell, task.identity)
    else:
        measure = ray.remote(tasks.measure).options(**options)
        needs = stock.of(task)
        found.answer = measure.remote(around, task.cell, task.identity, rerun, *needs)
    return found
