"""Which cell a worker starts next, so that none waits for a victim that another one trains.

The protocol between a schedule and whatever executes cells is two calls: `Schedule.next` asks for a
cell, `Schedule.done` tells that it has ended. A serial run (`in_order`), pytest-xdist's workers
(`bench.harness.workers`) and any `concurrent.futures.Executor` (`execute`) use the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from bench.measure import run
from bench.spec.job import Job
from bench.store.records import Record

ALONE = 0
"""The one worker of a serial run."""

Needs = tuple[str, ...]
"""Keys of the victims that a job needs, the attacked one first."""


class Schedule:
    """Jobs that are still to start.

    A victim is there once it is stored or a job that needed it has ended. Until then it is trained
    by the worker that was first given a job that needs it, and other workers' jobs that need it
    are blocked. ``there``: keys of victims that are there, by default those that are stored.
    """

    def __init__(self, jobs: Iterable[Job], there: Iterable[str] | None = None) -> None:
        self._groups: dict[Needs, deque[tuple[int, Job]]] = {}
        for place, job in enumerate(jobs):
            self._groups.setdefault(_needs(job), deque()).append((place, job))
        if there is None:
            waiting = [job for group in self._groups.values() for _, job in group]
            there = {victim.key for job in waiting for victim in job.needs if victim.is_trained}
        self._there = set(there)
        self._trainer: dict[str, Hashable] = {}
        self._last: dict[Hashable, str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def next(self, worker: Hashable, *, blocked: bool = False) -> Job | None:
        """The job that this worker starts now; None where there is none to start.

        First what needs the fewest trainings, and of that what attacks the victim that the worker
        has in memory. ``blocked``: give it a job that waits for another worker's training rather
        than none.
        """
        ranked = [
            (self._is_blocked(needs, worker), self._trainings(needs),
             needs[0] != self._last.get(worker), group[0][0], needs)
            for needs, group in self._groups.items()
        ]  # fmt: skip
        if not ranked or (min(ranked)[0] and not blocked):
            return None
        needs = min(ranked)[-1]
        _, job = self._groups[needs].popleft()
        if not self._groups[needs]:
            del self._groups[needs]
        self._last[worker] = needs[0]
        for key in needs:
            if key not in self._there:
                self._trainer.setdefault(key, worker)
        return job

    def done(self, job: Job) -> None:
        """The job has ended. Victims that it failed to train somebody else may train."""
        for victim in job.needs:
            self._trainer.pop(victim.key, None)
            if victim.is_trained:
                self._there.add(victim.key)

    def again(self, job: Job) -> None:
        """A job that was handed out was not run: its worker is gone."""
        self.done(job)
        self._groups.setdefault(_needs(job), deque()).appendleft((-1, job))

    def _is_blocked(self, needs: Needs, worker: Hashable) -> bool:
        return any(self._trainer.get(key, worker) != worker for key in needs)

    def _trainings(self, needs: Needs) -> int:
        return sum(key not in self._there and key not in self._trainer for key in needs)


def _needs(job: Job) -> Needs:
    return tuple(victim.key for victim in job.needs)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The order in which a single worker measures them: what is ready first, a victim's together.

    It does not depend on what is stored already, so that a run that goes on keeps its order.
    """
    schedule = Schedule(jobs, there=())
    found = []
    while (job := schedule.next(ALONE)) is not None:
        found.append(job)
    return found


def execute(jobs: Iterable[Job], executor: Executor, workers: int) -> Iterator[Record]:
    """Measure jobs on an executor, ``workers`` at a time, and yield each record as it is done.

    Raises what the first failing cell raises, BenchError as a rule; the others are cancelled.
    """
    schedule = Schedule(jobs)
    running: dict[Future[Record], tuple[int, Job]] = {}
    idle = list(range(workers))
    while len(schedule) or running:
        for worker in list(idle):
            job = schedule.next(worker, blocked=not running)
            if job is not None:
                idle.remove(worker)
                running[executor.submit(run, job)] = (worker, job)
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            worker, job = running.pop(future)
            schedule.done(job)
            idle.append(worker)
            yield future.result()
