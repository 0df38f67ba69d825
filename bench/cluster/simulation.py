"""A run on a cluster that nobody has: the same order of tasks, replayed with a clock of its own.

What is simulated: nodes with slots, tasks that take as long as they took where they were measured,
a fixed time that each task costs beside its work, a data set's first reading on each node, and
victims that travel once to each node that needs them, and one after another to the driver. Not
simulated: disks, failures, and that
nodes differ.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cluster.order import Order, Task
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.job import Job, VictimJob


@dataclass(frozen=True)
class Study:
    """What one data set and model cost. ``trainings``: seconds of a victim, of each attack that
    was measured, a clean model's first. ``cells``: seconds of each defense that was measured, and
    whether its figures are taken on a clean model too. ``own``: seconds of an attack's own figures.
    ``victim``: bytes of one. ``reading``: seconds until a node has the data set.
    """

    name: str
    trainings: Sequence[float]
    cells: Sequence[tuple[float, bool]]
    own: float
    victim: float
    reading: float


@dataclass(frozen=True)
class Cluster:
    """``bandwidth``: bytes a second, of a node. ``beside``: seconds that a task costs beside its
    work."""

    nodes: int
    slots: int
    bandwidth: float
    beside: float


@dataclass(frozen=True)
class Simulated:
    """``makespan``, ``work`` and ``chain`` in seconds: until the last task has ended, of all tasks,
    and of the longest chain of them. ``moved``: bytes that victims travelled."""

    makespan: float
    work: float
    chain: float
    moved: float
    slots: int

    @property
    def used(self) -> float:
        """The share of the slots that was in use."""
        return self.work / (self.makespan * self.slots)

    @property
    def bound(self) -> float:
        """No order of tasks ends sooner, in seconds."""
        return max(self.work / self.slots, self.chain)


def cross(
    studies: Sequence[Study], attacks: int, defenses: int, seeds: int
) -> tuple[list[Job], dict[str, float], dict[str, Study]]:
    """Jobs of so many attacks and defenses on each study; seconds of each task; studies by name.

    Of more than were measured, the costs come round again.
    """
    jobs: list[Job] = []
    took: dict[str, float] = {}
    for study in studies:
        for seed in range(seeds):
            clean = _victim(study.name, "none", seed)
            for at in range(attacks):
                victim = clean if at == 0 else _victim(study.name, f"attack{at}", seed)
                took[victim.key] = study.trainings[at % len(study.trainings)]
                needs = None if at == 0 else clean
                jobs.append(_job(victim, needs, "none"))
                took[jobs[-1].key] = study.own
                for number in range(defenses - 1):
                    seconds, on_clean = study.cells[number % len(study.cells)]
                    jobs.append(_job(victim, needs if on_clean else None, f"defense{number}"))
                    took[jobs[-1].key] = seconds
    return jobs, took, {study.name: study for study in studies}


def _victim(dataset: str, attack: str, seed: int) -> VictimJob:
    cell = Cell(dataset, model="any", attack=attack, seed=seed)
    return VictimJob(cell, _NOWHERE, {}, f"victim {cell.id}", Path())


def _job(victim: VictimJob, clean: VictimJob | None, defense: str) -> Job:
    cell = Cell(victim.cell.dataset, "any", victim.cell.attack, defense, victim.cell.seed)
    return Job(cell, _NOWHERE, victim, clean, None, {}, f"cell {cell.id}", Path())


_NOWHERE = Workspace(cache=Path())


def simulate(
    jobs: Sequence[Job], took: Mapping[str, float], studies: Mapping[str, Study], cluster: Cluster
) -> Simulated:
    """Replay a cross on a cluster. ``took``: seconds of each task, by key."""
    order = Order(jobs, frozenset(), lambda task: took[task.key])
    idle = [(node, slot) for slot in range(cluster.slots) for node in range(cluster.nodes)]
    idle.reverse()
    near: dict[int, set[str]] = defaultdict(set)
    read: set[tuple[int, str]] = set()
    running: list[tuple[float, int, tuple[int, int], Task]] = []
    clock = moved = kept = 0.0
    number = 0
    while len(order) or running:
        while idle:
            task = order.next(idle[-1], near[idle[-1][0]])
            if task is None:
                break
            node, slot = idle.pop()
            study = studies[task.cell.dataset]
            seconds = cluster.beside + took[task.key]
            if (node, study.name) not in read:
                read.add((node, study.name))
                seconds += study.reading
            for key in _files(task) - near[node]:
                near[node].add(key)
                moved += study.victim
                seconds += study.victim / cluster.bandwidth
            number += 1
            heapq.heappush(running, (clock + seconds, number, (node, slot), task))
        clock, _, place, task = heapq.heappop(running)
        if isinstance(task, VictimJob):
            near[place[0]].add(task.key)
            kept = max(kept, clock) + studies[task.cell.dataset].victim / cluster.bandwidth
        order.done(task)
        idle.append(place)
    return Simulated(
        max(clock, kept),
        sum(took.values()),
        max(_chains(jobs, took)),
        moved,
        cluster.nodes * cluster.slots,
    )


def _files(task: Task) -> set[str]:
    return set() if isinstance(task, VictimJob) else {need.key for need in task.needs}


def _chains(jobs: Sequence[Job], took: Mapping[str, float]) -> Iterator[float]:
    for job in jobs:
        yield took[job.key] + max(took[need.key] for need in job.needs)
