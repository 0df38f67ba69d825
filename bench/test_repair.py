"""Does the repair remove the backdoor, and does the model stay good?"""

from collections.abc import Callable

from bench.spec.cell import Cell

KIND = "repair"


def test_repair(cell: Cell, judged: Callable[[Cell], None]) -> None:
    judged(cell)
