"""Which task a slot of a cluster starts next, where trainings are tasks of their own.

Slots ask `Order.next` and tell `Order.done`, as workers do of `bench.harness.schedule`; there a
training is part of the cell that needs it first, since a test of pytest cannot be parted. Here no
slot ever waits for another's training. Knows nothing of Ray: a simulation asks the same order.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Set

from bench.spec.cell import Cell
from bench.spec.job import Job, VictimJob

Task = VictimJob | Job
Cost = Callable[[Task], float]
"""Seconds that a task is expected to take."""


class Order:
    """Tasks that are still to start.

    A slot goes on with the victim that it trained last, as long as cells of it are ready; then it
    trains the victim that most work waits for; where there is none to train, it takes cells of the
    victim with most work left, of those whose files are near if there are any: longest expected
    first. ``there``: keys of victims that need no training; ``begun``: of those that are being
    trained.
    """

    def __init__(
        self, jobs: Iterable[Job], there: Set[str], cost: Cost, begun: Set[str] = frozenset()
    ) -> None:
        self._cost = cost
        self._there = set(there)
        self._count = itertools.count()
        self._jobs: dict[Cell, Job] = {}
        self._lacking: dict[Cell, set[str]] = {}
        self._waiting: dict[str, list[Job]] = defaultdict(list)
        self._ready: dict[str, list[tuple[float, int, Job]]] = defaultdict(list)
        self._left: dict[str, float] = defaultdict(float)
        self._last: dict[Hashable, str] = {}
        victims: dict[str, VictimJob] = {}
        weight: dict[str, float] = defaultdict(float)
        for job in jobs:
            self._jobs[job.cell] = job
            self._left[job.victim.key] += cost(job)
            self._lacking[job.cell] = {need.key for need in job.needs} - self._there
            for need in job.needs:
                weight[need.key] += cost(job)
                if need.key not in self._there:
                    victims.setdefault(need.key, need)
                    self._waiting[need.key].append(job)
            if not self._lacking[job.cell]:
                self._push(job)
        self._trainings = [
            (-weight[key] - cost(victim), next(self._count), victim)
            for key, victim in victims.items()
            if key not in begun
        ]
        heapq.heapify(self._trainings)

    def __len__(self) -> int:
        """Tasks that nobody has started."""
        return len(self._jobs) + len(self._trainings)

    @property
    def jobs(self) -> list[Job]:
        """The cells that nobody has started."""
        return list(self._jobs.values())

    def next(self, slot: Hashable, near: Set[str] = frozenset()) -> Task | None:
        """What this slot starts now; None where all that is left waits for trainings.

        ``near``: keys of the victims whose files are where the slot is.
        """
        last = self._last.get(slot, "")
        if last not in self._ready:
            if self._trainings:
                training = heapq.heappop(self._trainings)[-1]
                self._last[slot] = training.key
                return training
            if not self._ready:
                return None
            last = max(self._ready, key=lambda key: (key in near, self._left[key]))
        self._last[slot] = last
        job = heapq.heappop(self._ready[last])[-1]
        if not self._ready[last]:
            del self._ready[last]
        self._left[last] -= self._cost(job)
        del self._jobs[job.cell]
        return job

    def done(self, task: Task) -> None:
        """It has ended. A victim is there from now on."""
        if isinstance(task, VictimJob):
            self._there.add(task.key)
            for job in self._waiting.pop(task.key, []):
                self._lacking[job.cell].discard(task.key)
                if not self._lacking[job.cell] and job.cell in self._jobs:
                    self._push(job)

    def again(self, task: Task) -> None:
        """It was not run: its node is gone."""
        if isinstance(task, VictimJob):
            heapq.heappush(self._trainings, (-math.inf, next(self._count), task))
        else:
            self._back(task)
            self._push(task)

    def lacks(self, job: Job, victim: VictimJob) -> None:
        """A cell was not run, since a victim that was there is no more: it is trained again."""
        self._back(job)
        self._lacking[job.cell] = {victim.key}
        self._waiting[victim.key].append(job)
        if victim.key in self._there:
            self._there.remove(victim.key)
            self.again(victim)

    def failed(self, victim: VictimJob) -> list[Job]:
        """It cannot be trained: the cells that need it are none of this order any more."""
        lost = [job for job in self._waiting.pop(victim.key, []) if job.cell in self._jobs]
        for job in lost:
            del self._jobs[job.cell]
            self._left[job.victim.key] -= self._cost(job)
        return lost

    def _back(self, job: Job) -> None:
        self._jobs[job.cell] = job
        self._left[job.victim.key] += self._cost(job)

    def _push(self, job: Job) -> None:
        heapq.heappush(self._ready[job.victim.key], (-self._cost(job), next(self._count), job))
