"""What came of each cell, for the tests that wait for it in another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.spec.cell import Cell

TOLD_S = 0.5
"""Between two words to whoever waits."""


@dataclass(frozen=True)
class Ended:
    """What came of a cell. ``path``: of its record in the cache; ``error``: why there is none.

    ``reused``: the record was there already.
    """

    path: Path
    error: str = ""
    reused: bool = False


class Ends:
    """Filled by one thread, waited for by another."""

    def __init__(self) -> None:
        self._of: dict[Cell, Ended] = {}
        self._changed = threading.Condition()
        self._told = 0.0

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._of

    @property
    def measured(self) -> int:
        """Cells that have a record."""
        return sum(not one.error for one in self._of.values())

    def put(self, cell: Cell, ended: Ended) -> None:
        """The first word on a cell stands."""
        with self._changed:
            self._of.setdefault(cell, ended)
            self._changed.notify_all()

    def wait(self, cell: Cell, tick: Callable[[], None]) -> Ended:
        """What came of a cell, once it has ended. ``tick``: called now and then until then."""
        while True:
            with self._changed:
                if cell not in self._of:
                    self._changed.wait(TOLD_S)
                if cell in self._of:
                    return self._of[cell]
            if time.monotonic() - self._told > TOLD_S:
                tick()
                self._told = time.monotonic()
