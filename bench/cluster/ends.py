"""What came of each cell, for the tests that wait for it in another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.spec.cell import Cell

TOLD_S = 0.5
"""Between two words to whoever waits."""


@dataclass(frozen=True)
class Ended:
    """What came of a cell. ``path``: of its record in the cache; ``error``: why there is none.

    ``seconds``: of the work on the node, 0 for a record that was there already.
    """

    path: Path
    error: str = ""
    seconds: float = 0.0
    reused: bool = False
    host: str = ""


class Ends:
    """Filled by one thread, waited for by another."""

    def __init__(self) -> None:
        self._of: dict[Cell, Ended] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._of

    def put(self, cell: Cell, ended: Ended) -> None:
        """The first word on a cell stands."""
        with self._changed:
            self._of.setdefault(cell, ended)
            self._changed.notify_all()

    def wait(self, cell: Cell, tick: Callable[[], None]) -> Ended:
        """What came of a cell, once it has ended. ``tick``: called now and then until then."""
        with self._changed:
            while cell not in self._of:
                if not self._changed.wait(TOLD_S):
                    tick()
            return self._of[cell]
