"""The driver's loop: hands tasks to free slots, keeps what comes back, and outlives its nodes.

One thread talks to Ray; tests wait for their cells. Whatever a node has made is written to the
driver's cache at once, so a driver that is killed goes on where it was, and a node that dies takes
no victim with it.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from bench.cluster import nodes, parcels
from bench.cluster.endings import reason
from bench.cluster.ends import Ended, Ends
from bench.cluster.fleet import Fleet
from bench.cluster.launch import Running, launched
from bench.cluster.nodes import Asked, Kind, Node
from bench.cluster.order import Order, Task
from bench.cluster.sharing import on, shared_out
from bench.cluster.stock import Stock, shipment
from bench.cluster.tally import Tally
from bench.cluster.tasks import Outcome, Surroundings
from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.estimates import Estimates, cell_task, victim_task
from bench.spec.job import Job, VictimJob
from fixtures.errors import BenchError

TRIES = 3
"""Times that a task is begun whose worker or node ends under it."""

GRACE_S = 30.0
"""Past ``--cell-timeout``, what a task has to end itself before its worker is ended."""

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
        self._jobs = list(jobs)
        self._how = how
        self._around = around
        self._estimates = estimates
        self._reruns = reruns
        self._cache = jobs[0].workspace.cache
        self._ends = Ends()
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="triggerbench-ray", daemon=True)
        self._orders: dict[Kind, Order] = {}
        self._running: dict[Any, Running] = {}
        self._near: dict[str, set[str]] = defaultdict(set)
        self._stock = Stock()
        self._tries: Counter[str] = Counter()
        self._tally = Tally()
        self._fleet = Fleet(how, around, self._tally)

    def start(self) -> None:
        """Join or start the cluster, and begin. Raises BenchError, one line."""
        self._ours = nodes.joined(self._how)
        self._fleet.look(now=True)
        if not self._fleet.nodes:
            self.stop()
            raise BenchError(
                f"--executor: no node can be used: {'; '.join(self._tally.notes) or 'none'}"
            )
        self._share([job for job in self._jobs if not self._is_there(job)])
        self._thread.start()

    def ended(self, cell: Cell, tick: Callable[[str], None] = lambda _: None) -> Ended:
        """Wait for a cell. ``tick``: is told now and then how far the run is."""
        return self._ends.wait(cell, lambda: tick(self.state))

    @property
    def state(self) -> str:
        """``12 running, 40 waiting, 7 done``."""
        running = sum(isinstance(one.task, Job) for one in list(self._running.values()))
        training = len(self._running) - running
        done = len(self._ends)
        waiting = len(self._jobs) - done - running
        return f"{running} running, {training} training, {waiting} waiting, {done} done"

    @property
    def slots(self) -> int:
        return self._fleet.all_slots

    def stop(self) -> int:
        """End what runs, leave the cluster; how many tasks were ended."""
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20.0)
        ray, cancelled = nodes.library(), 0
        for answer in self._running:
            try:
                ray.cancel(answer, force=True)
                cancelled += 1
            except Exception:  # it has ended, or its node has
                continue
        self._running.clear()
        if self._ours:
            ray.shutdown()
        return cancelled

    def lines(self) -> list[str]:
        return self._tally.lines(len(self._ends), self._fleet.kinds.values())

    def _guard(self) -> None:
        """The thread. Whatever ends it ends the cells that are left: no test waits for ever."""
        reason = "the run was ended"
        try:
            self._loop()
        except Exception as error:  # of Ray, or of ours
            line = " ".join(str(error).split())[:300]
            reason = f"the cluster is lost: {type(error).__name__}: {line}"
        for job in self._jobs:
            self._ends.put(job.cell, Ended(job.path, reason))

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
            self._end_late()
            if self._fleet.look():
                self._move()

    def _cost(self, task: Task) -> float:
        if isinstance(task, VictimJob):
            return self._estimates.seconds(victim_task(task.cell)) or UNKNOWN_S
        return task.expected_s or UNKNOWN_S

    def _is_there(self, job: Job) -> bool:
        if job.cell in self._reruns or not job.is_measured:
            return False
        self._ends.put(job.cell, Ended(job.path, reused=True))
        return True

    def _share(self, jobs: Sequence[Job]) -> None:
        for kind, some in shared_out(jobs, self._fleet.power, self._cost).items():
            placed = [on(job, self._fleet.kinds[kind], self._cache) for job in some]
            left = [job for job in placed if not self._is_there(job)]
            needed = {need.key: need for job in left for need in job.needs}
            self._stock.expect(left)
            there = {key for key, need in needed.items() if need.is_trained}
            self._orders[kind] = Order(left, there, self._cost)

    def _fill(self) -> None:
        """A task for every free slot."""
        taken = {(one.node.id, one.slot) for one in self._running.values()}
        for node in list(self._fleet.nodes.values()):
            order = self._orders.get(node.kind)
            for slot in range(self._fleet.slots(node)):
                if order is None or (node.id, slot) in taken:
                    continue
                task = order.next((node.id, slot), self._near[node.id])
                if task is None:
                    break
                self._launch(task, node, slot)

    def _launch(self, task: Task, node: Node, slot: int) -> None:
        memory, rerun = self._fleet.memory, task.cell in self._reruns
        try:
            one = launched(task, node, slot, self._around, self._stock, memory, rerun)
        except BenchError as error:
            self._fail(task, node.kind, str(error))
            return
        self._running[one.answer] = one

    def _take(self, answer: Any) -> None:
        """Keep what a task has brought, or have it begun again."""
        running = self._running.pop(answer)
        task, node, held = running.task, running.node, running.seconds
        order = self._orders[node.kind]
        try:
            outcome: Outcome = nodes.library().get(answer)
            if isinstance(task, VictimJob) and not outcome.error:
                parcels.stored(task, nodes.library().get(running.files))
        except BenchError as error:  # the driver's cache takes no more
            self._fail(task, node.kind, str(error))
            return
        except Exception as error:  # the worker or its node has ended, or the object is lost
            self._lost(running, error)
            return
        if outcome.lacks and self._send(task.cell, running):
            order.again(task)
            return
        if outcome.error:
            self._fail(task, node.kind, outcome.error)
            return
        self._learn(task, outcome)
        self._tally.ended(task, held, outcome.seconds, node.about.host)
        order.done(task)
        if isinstance(task, VictimJob):
            self._stock.add(task, running.files)
            self._near[node.id].add(task.key)
            return
        self._near[node.id].update(need.key for need in task.needs)
        try:
            files.write(task.path, outcome.record)
        except BenchError as error:
            self._fail(task, node.kind, str(error))
            return
        self._ends.put(
            task.cell,
            Ended(task.path, "", outcome.seconds, outcome.reused, node.about.host),
        )
        self._stock.done(task)

    def _learn(self, task: Task, outcome: Outcome) -> None:
        """Memory and seconds, for tasks that come."""
        for line in outcome.warned:
            self._tally.note(line)
        self._fleet.learn(outcome.peak_mib)
        if not outcome.reused:
            name = victim_task if isinstance(task, VictimJob) else cell_task
            self._estimates.learn(name(task.cell), outcome.seconds)

    def _lost(self, running: Running, error: Exception) -> None:
        """Its worker or node ended, or what it needed was there. Begun again, but not for ever."""
        task, node = running.task, running.node
        if isinstance(task, Job):
            self._stock.doubt(task)
        name = f"{'training of ' if isinstance(task, VictimJob) else ''}{task.cell.id}"
        why = f"{node.about.host}: {reason(error)}"
        self._tries[name] += 1
        if running.late:
            limit = f"{self._around.timeout:g}"
            self._fail(task, node.kind, f"took longer than --cell-timeout {limit} s")
        elif self._tries[name] >= TRIES:
            self._fail(task, node.kind, f"begun {TRIES} times, at last {why}")
        else:
            self._tally.again(f"{name} ({why})")
            self._orders[node.kind].again(task)
            self._fleet.look_soon()

    def _fail(self, task: Task, kind: Kind, error: str) -> None:
        lost = self._orders[kind].failed(task) if isinstance(task, VictimJob) else [task]
        for job in lost:
            self._ends.put(job.cell, Ended(job.path, error))
            self._stock.done(job)

    def _send(self, cell: Cell, running: Running) -> bool:
        """Put a data set into the cluster, for nodes that lack it; False where that cannot be."""
        name = cell.data_name
        if name in running.around.sent:
            return False
        if name in self._around.sent:  # since it was begun
            return True
        sent = shipment(cell, self._jobs[0].workspace)
        if sent is None:
            return False
        self._around = replace(self._around, sent={**self._around.sent, name: sent})
        self._tally.note(f"{name} was sent to nodes that had it not")
        return True

    def _end_late(self) -> None:
        """End workers whose task does not end itself, whatever it is at."""
        if self._around.timeout is None:
            return
        for answer, one in self._running.items():
            if not one.late and one.seconds > self._around.timeout + GRACE_S:
                one.late = True
                nodes.library().cancel(answer, force=True)

    def _move(self) -> None:
        """Cells of a kind of which no node is left go to another kind; without any, they fail."""
        for kind, order in list(self._orders.items()):
            runs = any(one.node.kind == kind for one in self._running.values())
            if runs or not len(order) or not self._fleet.is_gone(kind):
                continue
            del self._orders[kind]
            mine = set(order.left())
            left = [job for job in self._jobs if job.cell in mine]
            if self._fleet.nodes:
                self._share(left)
                continue
            for job in left:
                self._ends.put(job.cell, Ended(job.path, "no node of the cluster is left"))
