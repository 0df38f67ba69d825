"""How many clean images of each class a cell asks for its defender, and how an id says it."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from fixtures.errors import BenchError

Budget: TypeAlias = int | Literal["all"]
"""Images of each class, from 1 upwards, or the whole clean split."""

ALL: Literal["all"] = "all"
"""The whole clean split."""


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
