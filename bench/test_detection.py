"""Does the detector see it, and does it leave clean models alone?"""

from collections.abc import Callable

from bench.spec.cell import Cell

KIND = "detection"


def test_detection(cell: Cell, judged: Callable[[Cell], None]) -> None:
    judged(cell)
