"""Which nodes a run may use just now, and how many of its tasks each takes."""

from __future__ import annotations

import time
from collections import defaultdict

from bench.cluster import nodes
from bench.cluster.nodes import Asked, Kind, Node
from bench.cluster.tally import Tally
from bench.cluster.tasks import Surroundings

LOOKED_S = 5.0
"""Between two looks at which nodes are there."""

ALONE_S = 60.0
"""After that long without a node, a kind of nodes is gone."""

USUAL_GIB = 2.0
"""Memory that a run is taken to need until one has told more."""


class Fleet:
    """``memory``: bytes that one task is taken to need; ``kinds``: a node of each kind there was.

    What is left out, and why, is noted in the tally.
    """

    def __init__(self, how: Asked, around: Surroundings, tally: Tally) -> None:
        self._how = how
        self._around = around
        self._tally = tally
        self._left_out: set[str] = set()
        self._seen: dict[Kind, float] = {}
        self._looked = 0.0
        self.memory = (how.memory or USUAL_GIB) * 2**30
        self.nodes: dict[str, Node] = {}
        self.kinds: dict[Kind, Node] = {}

    def look(self, *, now: bool = False) -> bool:
        """Which nodes are there, if it is time to look; ``now``: it is."""
        if not now and time.monotonic() - self._looked < LOOKED_S:
            return False
        there = nodes.alive()
        new = {id: of for id, of in there.items() if id not in {*self.nodes, *self._left_out}}
        for found in nodes.probed(new, self._how, self._around):
            if isinstance(found, str):
                self._tally.note(found)
            elif self.slots(found) < 1:
                self._tally.note(
                    f"{found.about.host} is left out: a run takes {self._around.threads} cores "
                    f"and {self.memory / 2**30:.1f} GiB, it has {found.cores:.0f} and "
                    f"{found.memory / 2**30:.1f}"
                )
            else:
                self.nodes[found.id] = found
                self.kinds.setdefault(found.kind, found)
        self._left_out |= set(new) - set(self.nodes)
        self.nodes = {id: node for id, node in self.nodes.items() if id in there}
        self._looked = time.monotonic()
        self._seen |= {node.kind: self._looked for node in self.nodes.values()}
        return True

    def look_soon(self) -> None:
        """A node may have gone: the next `look` looks."""
        self._looked = 0.0

    def slots(self, node: Node) -> int:
        return node.slots(self._around.threads, self.memory)

    @property
    def all_slots(self) -> int:
        return sum(self.slots(node) for node in list(self.nodes.values()))

    @property
    def power(self) -> dict[Kind, float]:
        """Slots of each kind of nodes."""
        found: dict[Kind, float] = defaultdict(float)
        for node in self.nodes.values():
            found[node.kind] += self.slots(node)
        return found

    def is_gone(self, kind: Kind) -> bool:
        """Whether no node of that kind has been there for `ALONE_S`."""
        return time.monotonic() - self._seen.get(kind, 0.0) > ALONE_S

    def learn(self, peak_mib: float) -> None:
        """A task has taken so much memory."""
        if not self._how.memory:
            self.memory = max(self.memory, 1.1 * peak_mib * 2**20)
