"""Which cell a worker starts next: one whose victims are there, or its own to train.

The protocol between a schedule and whatever executes cells is two calls: `Schedule.next` asks for a
cell, `Schedule.done` tells that it has ended. A serial run (`in_order`), pytest-xdist's workers
(`bench.harness.workers`) and executors of processes (`execute`) use the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait

from bench.measure import run
from bench.spec.cell import Cell
from bench.spec.job import Job
from bench.store.records import Record
from fixtures.errors import BenchError

ALONE = 0
"""The one worker of a serial run."""

Needs = tuple[str, ...]
"""Keys of the victims that a job needs, the attacked one first."""


class Schedule:
    """Jobs that are still to start.

    A victim is there once it is stored or a job that needed it has ended. Until then it is trained
    by the worker that was first given a job that needs it. Another worker's job that needs it is
    blocked, unless it has a victim of its own to train first. ``there``: keys of victims that are
    there, by default those that are stored; then a job whose record is in the cache needs none.
    ``longest_first``: of equals, the victim with the most expected work on it comes first, rather
    than the one given first.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        there: Iterable[str] | None = None,
        *,
        longest_first: bool = False,
    ) -> None:
        jobs = list(jobs)
        self._groups: dict[Needs, deque[tuple[int, Job]]] = {}
        self._work: dict[str, float] = {}
        if longest_first:
            for job in jobs:
                work = self._work.get(job.victim.key, 0.0) + (job.expected_s or 0.0)
                self._work[job.victim.key] = work
        self._resumes = there is None
        for place, job in enumerate(jobs):
            self._groups.setdefault(self._needs(job), deque()).append((place, job))
        if there is None:
            there = {victim.key for job in jobs for victim in job.needs if victim.is_trained}
        self._there = set(there)
        self._trainer: dict[str, Hashable] = {}
        self._claims: dict[Cell, list[str]] = {}
        self._last: dict[Hashable, Needs] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def next(self, worker: Hashable, *, blocked: bool = False) -> Job | None:
        """The job that this worker starts now; None where there is none to start.

        First what needs the fewest trainings, and of that what attacks the victim that the worker
        has in memory. ``blocked``: give it a job that waits for another worker's training rather
        than none.
        """
        ranked = [
            (self._is_blocked(needs, worker), self._waits(needs, worker), self._trainings(needs),
             needs[:1] != self._last.get(worker, ()), -self._work.get("".join(needs[:1]), 0.0),
             group[0][0], needs)
            for needs, group in self._groups.items()
        ]  # fmt: skip
        if not ranked or (min(ranked)[0] and not blocked):
            return None
        needs = min(ranked)[-1]
        _, job = self._groups[needs].popleft()
        if not self._groups[needs]:
            del self._groups[needs]
        self._last[worker] = needs[:1]
        claimed = [key for key in needs if key not in self._there and key not in self._trainer]
        self._trainer |= dict.fromkeys(claimed, worker)
        self._claims[job.cell] = claimed
        return job

    def done(self, job: Job) -> None:
        """The job has ended. Victims that it failed to train somebody else may train."""
        for key in self._claims.pop(job.cell, ()):
            del self._trainer[key]
        self._there |= {victim.key for victim in job.needs if victim.is_trained}

    def again(self, job: Job) -> None:
        """A job that was handed out was not run: its worker is gone."""
        self.done(job)
        self._groups.setdefault(self._needs(job), deque()).appendleft((-1, job))

    def _needs(self, job: Job) -> Needs:
        if self._resumes and job.is_measured:
            return ()
        return tuple(victim.key for victim in job.needs)

    def _is_blocked(self, needs: Needs, worker: Hashable) -> bool:
        return self._waits(needs, worker) and not self._trainings(needs)

    def _waits(self, needs: Needs, worker: Hashable) -> bool:
        """Whether another worker trains one of its victims."""
        return any(self._trainer.get(key, worker) != worker for key in needs)

    def _trainings(self, needs: Needs) -> int:
        return sum(key not in self._there and key not in self._trainer for key in needs)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The order in which a single worker measures them: what is ready first, a victim's together.

    What is stored already plays no part: a run that goes on keeps its order.
    """
    schedule = Schedule(jobs, there=())
    found = []
    while (job := schedule.next(ALONE)) is not None:
        found.append(job)
    return found


def execute(jobs: Iterable[Job], executor: Executor, workers: int) -> Iterator[Record]:
    """Measure jobs in an executor's processes, ``workers`` at a time; yields records as they come.

    Threads would draw from one another's random state, so a pool of several is a BenchError. Raises
    what a failing cell raises, BenchError as a rule, after the records that came with it; what has
    not started by then is not started.
    """
    if isinstance(executor, ThreadPoolExecutor) and workers > 1:
        raise BenchError("cells in several threads share their random state: use processes")
    schedule = Schedule(jobs, longest_first=True)
    running: dict[Future[Record], tuple[int, Job]] = {}
    idle = list(range(workers))
    while len(schedule) or running:
        for worker in list(idle):
            job = schedule.next(worker, blocked=not running)
            if job is not None:
                idle.remove(worker)
                running[executor.submit(run, job)] = (worker, job)
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(ended, key=lambda future: future.exception() is not None):
            worker, job = running.pop(future)
            schedule.done(job)
            idle.append(worker)
            yield future.result()
