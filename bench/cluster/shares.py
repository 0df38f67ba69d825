"""The orders of tasks of all kinds of nodes, shared out anew where kinds come, go or idle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence, Set

from bench.cluster import sharing
from bench.cluster.fleet import Fleet
from bench.cluster.nodes import Kind, Node
from bench.cluster.order import Cost, Order, Task
from bench.cluster.sharing import Unit
from bench.spec.cell import Cell
from bench.spec.job import Job, VictimJob

NO_LIBRARY = "no node has the libraries that it needs"


class Shares:
    """``is_there``: whether a job, as a kind of nodes would do it, has a record already.

    ``give_up``: told of a cell that no node can measure, and why.
    """

    def __init__(
        self,
        fleet: Fleet,
        cost: Cost,
        is_there: Callable[[Job], bool],
        give_up: Callable[[Job, str], None],
    ) -> None:
        self._fleet = fleet
        self._cost = cost
        self._is_there = is_there
        self._give_up = give_up
        self._orders: dict[Kind, Order] = {}
        self._of: dict[Unit, Kind] = {}
        self._begun: set[Unit] = set()
        self._as: dict[tuple[Kind, Cell], Job] = {}
        self._unsettled = True

    def next(self, node: Node, slot: int, near: Set[str]) -> Task | None:
        """What that slot of a node starts now."""
        order = self._orders.get(node.kind)
        task = None if order is None else order.next((node.id, slot), near)
        if task is not None:
            self._begun.add(sharing.unit_of(task))
        return task

    def done(self, task: Task, node: Node) -> None:
        if node.kind in self._orders:
            self._orders[node.kind].done(task)

    def again(self, task: Task, node: Node) -> None:
        """It was not run; where its kind of nodes is no more, all is shared out anew."""
        order = self._orders.get(node.kind)
        if order is None or self._of.get(sharing.unit_of(task), node.kind) != node.kind:
            self._unsettled = True
        else:
            order.again(task)

    def lacks(self, job: Job, victim: VictimJob, node: Node) -> None:
        """It was not run, since a victim is no more."""
        self._orders[node.kind].lacks(job, victim)

    def failed(self, victim: VictimJob, node: Node) -> list[Job]:
        """The cells that need it, which are given up."""
        return self._orders[node.kind].failed(victim) if node.kind in self._orders else []

    def settle(self, left: Sequence[Job], at_work: Sequence[Task]) -> list[Job] | None:
        """Share out anew where kinds have come or gone, or have nothing to do while others have
        attacks that nobody has begun: the cells that are left then, as their nodes do them. None
        where all stays as it is.

        ``left``: cells that have not ended, ``at_work``: tasks that run.
        """
        power = self._fleet.power
        there = {kind for kind in self._orders if kind in power or not self._fleet.is_gone(kind)}
        idle = any(not self._orders.get(kind) for kind in power)
        if not power and not there and not at_work:
            for job in left:
                self._give_up(job, "no node of the cluster is left")
        if not power or not (self._unsettled or idle or len(there) < len(self._orders)):
            return None
        self._unsettled = False
        placed = self._placed(left, power, there | set(power))
        under_way = {task.cell for task in at_work if isinstance(task, Job)}
        begun = {task.key for task in at_work if isinstance(task, VictimJob)}
        self._orders = {
            kind: Order(
                [job for job in some if job.cell not in under_way],
                {v.key for job in some for v in job.needs if v.is_trained} - begun,
                self._cost,
                begun,
            )
            for kind, some in placed.items()
        }
        return [job for some in placed.values() for job in some]

    def _placed(
        self, left: Sequence[Job], power: dict[Kind, float], there: Set[Kind]
    ) -> dict[Kind, list[Job]]:
        """Attacks that nobody has begun go to the kind that is done with them first; begun ones
        stay, unless their kind is gone. ``there``: kinds that are not gone."""
        units = sharing.units_of(left)
        stay = {unit for unit in units if unit in self._begun and self._of.get(unit) in there}
        load: dict[Kind, float] = defaultdict(float)
        for unit in stay:
            load[self._of[unit]] += sum(map(self._cost, units[unit]))
        free = {unit: some for unit, some in units.items() if unit not in stay}
        found = sharing.shared_out(free, power, self._cost, self._able, self._stored, load)
        self._of |= found
        placed: dict[Kind, list[Job]] = {kind: [] for kind in there}
        for unit, some in units.items():
            if unit in free and unit not in found:
                for job in some:
                    self._give_up(job, NO_LIBRARY)
                continue
            own = (self._on(job, self._of[unit]) for job in some)
            placed[self._of[unit]] += [job for job in own if not self._is_there(job)]
        return placed

    def _on(self, job: Job, kind: Kind) -> Job:
        """The job as nodes of that kind do it, worked out once."""
        name = kind, job.cell
        if name not in self._as:
            self._as[name] = sharing.on(job, self._fleet.kinds[kind], job.workspace.cache)
        return self._as[name]

    def _able(self, kind: Kind, jobs: Sequence[Job]) -> bool:
        return sharing.can(self._fleet.kinds[kind], jobs)

    def _stored(self, kind: Kind, jobs: Sequence[Job]) -> int:
        return sum(self._on(job, kind).is_measured for job in jobs)
