"""The driver's loop: hands tasks to free slots, keeps what comes back, and outlives its nodes.

One thread talks to Ray; tests wait for their cells. Whatever a node has made is written to the
driver's cache, so a driver that is killed goes on where it was, and a node that dies takes no
victim with it.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from bench.cluster import nodes
from bench.cluster.endings import is_the_tasks_own, is_too_large, reason
from bench.cluster.ends import Ended, Ends
from bench.cluster.fleet import Fleet
from bench.cluster.launch import Running, launched
from bench.cluster.nodes import Asked, Node
from bench.cluster.order import Task
from bench.cluster.shares import Shares
from bench.cluster.stock import Stock, shipment
from bench.cluster.tally import Tally
from bench.cluster.tasks import Outcome, Surroundings
from bench.measure import cached
from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.estimates import Estimates, cell_task, victim_task
from bench.spec.job import Job, VictimJob
from fixtures.errors import BenchError

TRIES = 3
"""Times that a task is begun whose worker ends under it."""

UNKNOWN_S = 60.0
"""Seconds of a task of which nothing is known."""


class Dispatch:
    """The cells of a run on a cluster. ``reruns``: those that are measured whatever is known.

    `start` raises BenchError where there is no cluster; afterwards `ended` waits for a cell.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        how: Asked,
        around: Surroundings,
        estimates: Estimates,
        reruns: Set[Cell] = frozenset(),
    ) -> None:
        self._jobs = {job.cell: job for job in jobs}
        self._how = how
        self._around = around
        self._estimates = estimates
        self._reruns = reruns
        self._ends = Ends()
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="triggerbench-ray", daemon=True)
        self._running: dict[Any, Running] = {}
        self._near: dict[str, set[str]] = defaultdict(set)
        self._tries: Counter[str] = Counter()
        self._tally = Tally()
        self._stock = Stock(self._tally)
        libraries = sorted({name for job in jobs for name in job.identity["versions"]})
        self._fleet = Fleet(how, around, self._tally, libraries)
        self._shares = Shares(self._fleet, self._cost, self._is_there, self._give_up)

    def start(self) -> None:
        """Join or start the cluster, and begin. Raises BenchError, one line."""
        self._ours = nodes.joined(self._how)
        self._fleet.gather()
        if not self._fleet.nodes:
            self.stop()
            why = "; ".join(self._tally.notes) or "none is there"
            raise BenchError(f"--executor: no node can be used: {why}")
        self._settle()
        self._thread.start()

    def ended(self, cell: Cell, tick: Callable[[str], None] = lambda _: None) -> Ended:
        """Wait for a cell. ``tick``: is told now and then how far the run is."""
        return self._ends.wait(cell, lambda: tick(self.state))

    @property
    def state(self) -> str:
        """``12 running, 2 training, 40 waiting, 7 done``."""
        tasks = [one.task for one in list(self._running.values())]
        running, done = sum(isinstance(task, Job) for task in tasks), len(self._ends)
        waiting = len(self._jobs) - done - running
        return f"{running} running, {len(tasks) - running} training, {waiting} waiting, {done} done"

    @property
    def slots(self) -> int:
        return self._fleet.all_slots

    def stop(self) -> int:
        """End what runs, leave the cluster; how many cells had not ended."""
        left = len(self._jobs) - len(self._ends)
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20.0)
        ray = nodes.library()
        for answer in list(self._running):
            try:
                ray.cancel(answer, force=True)
            except Exception:  # it has ended, or its node has
                continue
        self._stock.close()
        if self._ours:
            ray.shutdown()
        return left

    def lines(self) -> list[str]:
        return self._tally.lines(self._ends.measured, self._fleet.kinds.values())

    def _guard(self) -> None:
        """The thread. Whatever ends it ends the cells that are left: no test waits for ever."""
        why = "the run was ended"
        try:
            self._loop()
        except Exception as error:  # of Ray, or of ours
            line = " ".join(str(error).split())[:300]
            why = f"the cluster is lost: {type(error).__name__}: {line}"
        finally:
            for job in self._jobs.values():
                self._ends.put(job.cell, Ended(job.path, why))

    def _loop(self) -> None:
        ray = nodes.library()
        while not self._halt.is_set() and len(self._ends) < len(self._jobs):
            self._fill()
            self._tally.passed(self.slots)
            answers = list(self._running)
            if not answers:
                self._halt.wait(0.2)
            elif ray.wait(answers, timeout=0.5)[0]:
                for answer in ray.wait(answers, num_returns=len(answers), timeout=0)[0]:
                    self._take(answer)
            if self._fleet.look():
                self._settle()

    def _cost(self, task: Task) -> float:
        if isinstance(task, VictimJob):
            return self._estimates.seconds(victim_task(task.cell)) or UNKNOWN_S
        return task.expected_s or UNKNOWN_S

    def _settle(self) -> None:
        left = [job for cell, job in self._jobs.items() if cell not in self._ends]
        expected = self._shares.settle(left, [one.task for one in self._running.values()])
        if expected is not None:
            self._stock.expect(expected)

    def _give_up(self, job: Job, why: str) -> None:
        self._ends.put(job.cell, Ended(job.path, "; ".join([why, *self._tally.notes])))

    def _is_there(self, job: Job) -> bool:
        """Whether the driver's cache has its record, which can be read; then the cell has ended."""
        if job.cell in self._reruns or cached(job) is None:
            return False
        self._ends.put(job.cell, Ended(job.path, reused=True))
        return True

    def _fill(self) -> None:
        """A task for every free slot."""
        taken: dict[str, set[int]] = defaultdict(set)
        for one in self._running.values():
            taken[one.node.id].add(one.slot)
        for node in list(self._fleet.nodes.values()):
            free = (slot for slot in itertools.count() if slot not in taken[node.id])
            for _ in range(self._fleet.slots(node) - len(taken[node.id])):
                slot = next(free)
                task = self._shares.next(node, slot, self._near[node.id])
                if task is None:
                    break
                self._launch(task, node, slot)

    def _launch(self, task: Task, node: Node, slot: int) -> None:
        needs = []
        try:
            if isinstance(task, Job):
                for victim in task.needs:
                    fetch = self._stock.of(victim)
                    if fetch is None:
                        self._shares.lacks(task, victim, node)
                        return
                    needs.append(fetch)
            memory, rerun = self._fleet.reserved(node), task.cell in self._reruns
            one = launched(task, node, slot, self._around, memory, rerun, needs)
        except Exception as error:  # the object store is full, or the node is gone
            self._lost(task, node, reason(error), counts=True)
            return
        self._running[one.answer] = one

    def _take(self, answer: Any) -> None:
        """Keep what a task has brought, or have it begun again."""
        one = self._running.pop(answer)
        task, node = one.task, one.node
        try:
            outcome: Outcome = nodes.library().get(answer)
        except Exception as error:  # the worker or its node has ended
            if is_too_large(error):
                self._fleet.starve()
            late = self._around.timeout is not None and one.seconds > self._around.timeout
            if late and is_the_tasks_own(error):
                self._fail(
                    task, node, f"took longer than --cell-timeout {self._around.timeout:g} s"
                )
            else:
                self._lost(task, node, reason(error), counts=is_the_tasks_own(error))
            return
        if outcome.lost:
            if isinstance(task, Job):
                self._stock.doubt(task)
            self._lost(task, node, "what it needs was lost with a node", counts=False)
        elif outcome.lacks and self._send(task.cell, one):
            self._shares.again(task, node)
        elif outcome.fault:
            self._fleet.leave_out(node, outcome.error)
            self._lost(task, node, "the node is left out", counts=False)
        elif outcome.error:
            self._fail(task, node, outcome.error)
        else:
            self._keep(one, outcome)

    def _keep(self, one: Running, outcome: Outcome) -> None:
        task, node = one.task, one.node
        for line in outcome.warned:
            self._tally.note(line)
        self._fleet.learn(outcome.peak_mib)
        if not outcome.reused:
            name = victim_task if isinstance(task, VictimJob) else cell_task
            self._estimates.learn(name(task.cell), outcome.seconds)
        self._tally.ended(task, one.seconds, outcome.seconds, node.about.host)
        if isinstance(task, VictimJob):
            self._stock.add(task, one.files)
            self._near[node.id].add(task.key)
        else:
            self._near[node.id].update(need.key for need in task.needs)
            try:
                files.write(task.path, outcome.record)
            except BenchError as error:
                self._fail(task, node, str(error))
                return
            self._ends.put(task.cell, Ended(task.path, reused=outcome.reused))
            self._stock.done(task)
        self._shares.done(task, node)

    def _lost(self, task: Task, node: Node, why: str, *, counts: bool) -> None:
        """Its worker or node ended, or what it needed was there: begun again, but not for ever
        where that ``counts`` against the task."""
        name = f"{'training of ' if isinstance(task, VictimJob) else ''}{task.cell.id}"
        self._tries[name] += counts
        if self._tries[name] >= TRIES:
            self._fail(task, node, f"begun {TRIES} times, at last {node.about.host}: {why}")
            return
        self._tally.again(f"{name} ({node.about.host}: {why})")
        self._shares.again(task, node)
        self._fleet.look_soon()

    def _fail(self, task: Task, node: Node, error: str) -> None:
        for job in [task] if isinstance(task, Job) else self._shares.failed(task, node):
            self._ends.put(job.cell, Ended(job.path, error))
            self._stock.done(job)

    def _send(self, cell: Cell, one: Running) -> bool:
        """Put a data set into the cluster, for nodes that lack it; False where that cannot be."""
        name = cell.data_name
        if name in one.around.sent:
            return False
        if name in self._around.sent:  # since it was begun
            return True
        try:
            sent = shipment(cell, next(iter(self._jobs.values())).workspace)
        except Exception as error:
            self._tally.note(f"{name} cannot be sent to nodes: {reason(error)}")
            return False
        if sent is None:
            return False
        self._around = replace(self._around, sent={**self._around.sent, name: sent})
        self._tally.note(f"{name} was sent to nodes that had it not")
        return True
