"""Which nodes a run may use just now, and how many of its tasks each takes."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cluster import nodes, tasks
from bench.cluster.nodes import Asked, Kind, Node
from bench.cluster.tally import Tally
from bench.cluster.tasks import About, Surroundings

LOOKED_S = 5.0
"""Between two looks at which nodes are there."""

ALONE_S = 60.0
"""After that long without a node, a kind of nodes is gone."""

PROBED_S = 120.0
"""A node that does not say so long what it is is asked again later."""

USUAL_GIB = 2.0
"""Memory that a run is taken to need until one has told more."""

STEP = 1 << 28
"""Bytes by which memory is told apart: to Ray, each other number is another sort of task."""


class Fleet:
    """``memory``: bytes that one task is taken to need; ``kinds``: a node of each kind there was.

    ``libraries``: whose versions decide figures. What is left out, and why, is noted in the tally.
    """

    def __init__(
        self, how: Asked, around: Surroundings, tally: Tally, libraries: Sequence[str]
    ) -> None:
        self._how = how
        self._around = around
        self._tally = tally
        self._libraries = libraries
        self._left_out: set[str] = set()
        self._probes: dict[Any, tuple[str, Mapping[str, float], float]] = {}
        self._seen: dict[Kind, float] = {}
        self._looked = 0.0
        self.memory = (how.memory or USUAL_GIB) * 2**30
        self.nodes: dict[str, Node] = {}
        self.kinds: dict[Kind, Node] = {}

    def gather(self) -> None:
        """Wait until the nodes that are there now have said what they are."""
        self.look(now=True)
        until = time.monotonic() + PROBED_S
        while self._probes and time.monotonic() < until:
            nodes.library().wait(list(self._probes), timeout=1.0)
            self.look(now=True)

    def look(self, *, now: bool = False) -> bool:
        """Which nodes are there, if it is time to look; ``now``: it is. Waits for nobody."""
        if not now and time.monotonic() - self._looked < LOOKED_S:
            return False
        there = nodes.alive()
        asked = {node for node, _, _ in self._probes.values()}
        for node, resources in there.items():
            if node not in self.nodes and node not in self._left_out and node not in asked:
                gpus = nodes.LEAST_GPU if resources.get("GPU") else 0  # or it would see none
                options = nodes.placed(node, num_cpus=0, num_gpus=gpus)
                about = nodes.remote(tasks.about).options(**options)
                answer = about.remote(self._around, self._libraries)
                self._probes[answer] = node, resources, time.monotonic()
        self._answers()
        self.nodes = {id: node for id, node in self.nodes.items() if id in there}
        self._looked = time.monotonic()
        self._seen |= {node.kind: self._looked for node in self.nodes.values()}
        return True

    def _answers(self) -> None:
        """Take what nodes have said of themselves by now."""
        ray = nodes.library()
        if self._probes:
            ready, _ = ray.wait(list(self._probes), num_returns=len(self._probes), timeout=0)
            for answer in ready:
                node, resources, _ = self._probes.pop(answer)
                try:
                    self._add(node, resources, ray.get(answer))
                except Exception as error:  # it is gone already, or has not this project
                    line = " ".join(str(getattr(error, "cause", None) or error).split())[-200:]
                    self._leave_out(node, f"node {node[:8]}", line)
        for answer, (_, _, began) in list(self._probes.items()):
            if time.monotonic() - began > PROBED_S:
                ray.cancel(answer, force=True)
                del self._probes[answer]

    def _add(self, id: str, resources: Mapping[str, float], about: About) -> None:
        all_gpus = resources.get("GPU", 0.0) if about.machine["device"] == "cuda" else 0.0
        found = Node(id, about, resources["CPU"], resources.get("memory", math.inf), all_gpus,
                     self._how.gpus if all_gpus else 0.0)  # fmt: skip
        if about.code != tasks.code():
            why = f"it has triggerbench {about.code}, this is {tasks.code()}"
            self._leave_out(id, about.host, why)
        elif found.slots(self._around.threads, self.memory) < 1:
            self._leave_out(
                id,
                about.host,
                f"a run takes {self._around.threads} cores, {self.memory / 2**30:.1f} GiB and "
                f"{found.gpus:g} GPUs, it has {found.cores:.0f}, {found.memory / 2**30:.1f} and "
                f"{all_gpus:g}",
            )
        else:
            self.nodes[id] = found
            self.kinds.setdefault(found.kind, found)

    def leave_out(self, node: Node, why: str) -> None:
        """A node turned out to be at fault: it gets no task any more."""
        if self.nodes.pop(node.id, None) is not None:
            self._leave_out(node.id, node.about.host, why)

    def _leave_out(self, id: str, host: str, why: str) -> None:
        self._left_out.add(id)
        self._tally.note(f"{host} is left out: {why}")

    def look_soon(self) -> None:
        """A node may have gone: the next `look` looks."""
        self._looked = 0.0

    def slots(self, node: Node) -> int:
        """One at least of a node that is used, whatever tasks have been seen to take."""
        return max(1, node.slots(self._around.threads, self.memory))

    def reserved(self, node: Node) -> int:
        """Bytes that Ray is asked to keep for one task."""
        return int(min(self.memory, node.memory) // STEP * STEP)

    @property
    def all_slots(self) -> int:
        return sum(self.slots(node) for node in list(self.nodes.values()))

    @property
    def power(self) -> dict[Kind, float]:
        """Slots of each kind of nodes."""
        found: dict[Kind, float] = defaultdict(float)
        for node in self.nodes.values():
            found[node.kind] += self.slots(node)
        return dict(found)

    def is_gone(self, kind: Kind) -> bool:
        """Whether no node of that kind has been there for `ALONE_S`."""
        return time.monotonic() - self._seen.get(kind, 0.0) > ALONE_S

    def learn(self, peak_mib: float) -> None:
        """A task has taken so much memory."""
        if not self._how.memory:
            self.memory = max(self.memory, math.ceil(1.1 * peak_mib * 2**20 / STEP) * STEP)

    def starve(self) -> None:
        """A task had not enough memory."""
        self.learn(1.5 * self.memory / 1.1 / 2**20)
