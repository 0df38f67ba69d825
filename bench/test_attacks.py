"""Does the attack work, and how well is it hidden?"""

from collections.abc import Callable

from bench.spec.cell import Cell

KIND = "attack"


def test_attack(cell: Cell, judged: Callable[[Cell], None]) -> None:
    judged(cell)
