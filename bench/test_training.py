"""Does a training on data that is not trusted give a clean model, and a good one?"""

from collections.abc import Callable

from bench.spec.cell import Cell

KIND = "training"


def test_training(cell: Cell, judged: Callable[[Cell], None]) -> None:
    judged(cell)
