"""How many clean images of each class a cell asks for its defender, and how an id says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from fixtures.errors import BenchError

Budget: TypeAlias = int | Literal["all"]
"""Images of each class, from 1 upwards, or the whole clean split."""

ALL: Literal["all"] = "all"
"""The whole clean split."""

BUDGETS = (10, 25, 50, 100, 250)
"""What a data set's default is chosen among."""

MARGIN = 0.03
"""How far a fresh network must stay under the victim's accuracy at the default budget: with more
images than that, throwing the victim away is as good as repairing it."""


def default(victim: float, fresh: Mapping[int, float]) -> int | None:
    """The default budget by the rule: the largest that leaves the victim worth repairing.

    ``victim``: its accuracy. ``fresh``: budget -> accuracy of a network that is trained on so many
    clean images of each class, and on nothing else. None, for all images there are, where no budget
    qualifies.
    """
    return max((n for n, reached in fresh.items() if reached <= victim - MARGIN), default=None)


def available(sizes: Sequence[int]) -> list[int]:
    """Those of `BUDGETS` that some class can fill; ``sizes``: clean images of each class."""
    return [n for n in BUDGETS if n <= max(sizes)]


def check(budget: Budget | None, defense: str) -> None:
    """Raise BenchError for what is no budget, and for a budget of a cell without a defense."""
    if budget is None:
        return
    if budget != ALL and (type(budget) is not int or budget < 1):
        raise BenchError(f"clean = {budget!r} is no number of images from 1, nor {ALL!r}")
    if defense == "none":
        raise BenchError(f"clean = {budget!r}, but there is no defense to be given the images")


def written(budget: Budget) -> str:
    """The part of an id: ``c10``, ``c_all``."""
    return f"c_{ALL}" if budget == ALL else f"c{budget}"


def read(part: str) -> Budget | None:
    """What a part of an id says of the budget; None where it says nothing."""
    if part == written(ALL):
        return ALL
    return int(part[1:]) if re.fullmatch(r"c[1-9]\d*", part) else None
