"""What a run on a cluster took: slots in use, the longest chain, what was begun again, by whom."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from bench.cluster.nodes import Node
from bench.cluster.order import Task
from bench.spec.job import VictimJob


class Tally:
    """Told of every task that ends; `lines` say it at the end of the run."""

    def __init__(self) -> None:
        self._began = self._clock = time.monotonic()
        self._slot_s = self._busy_s = 0.0
        self._took: dict[str, float] = {}
        self._longest: tuple[float, str] = (0.0, "")
        self._hosts: Counter[str] = Counter()
        self._again: list[str] = []
        self._noted: dict[str, None] = {}

    def passed(self, slots: int) -> None:
        """So many slots have been there since the last call."""
        now = time.monotonic()
        self._slot_s += slots * (now - self._clock)
        self._clock = now

    def ended(self, task: Task, held: float, took: float, host: str) -> None:
        """A task held its slot for ``held`` seconds, of which its work ``took`` some."""
        self._busy_s += held
        if isinstance(task, VictimJob):
            self._took[task.key] = took
            return
        self._hosts[host] += 1
        before, name = max((self._took.get(v.key, 0.0), v.cell.id) for v in task.needs)
        words = f"{name} {before:.0f} s, {task.cell.id} {took:.0f} s"
        self._longest = max(self._longest, (before + took, words))

    def again(self, what: str) -> None:
        self._again.append(what)

    def note(self, line: str) -> None:
        """Told once, however often it is noted."""
        self._noted[line] = None

    @property
    def notes(self) -> list[str]:
        return list(self._noted)

    def lines(self, cells: int, kinds: Iterable[Node]) -> list[str]:
        passed = max(self._clock - self._began, 1e-9)
        used = 100 * self._busy_s / self._slot_s if self._slot_s else 0.0
        found = [f"{cells} cells in {passed:.0f} s, slots in use {used:.0f} %"]
        path, names = self._longest
        if names:
            found.append(f"critical path {path:.0f} s: {names}")
        if len(self._hosts) > 1:
            by_host = ", ".join(f"{n} by {host}" for host, n in sorted(self._hosts.items()))
            found.append(f"records: {by_host}")
        some = list(kinds)
        if len(some) > 1:
            found.append(
                f"{len(some)} kinds of nodes, whose records are never averaged: "
                + "; ".join(map(_in_words, some))
            )
        return [*found, *(f"again: {line}" for line in self._again), *self._noted]


def _in_words(node: Node) -> str:
    about = node.about
    versions = ", ".join(f"{name} {about.versions[name]}" for name in ("torch", "numpy"))
    return f"{about.host} ({', '.join(map(str, about.machine.values()))}, {versions})"
