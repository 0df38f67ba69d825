"""One class against all others: how far it stands out, and of how many that can be said.

No plugin by itself: model detectors that accuse one class share it.
"""

from __future__ import annotations

from torch import Tensor

FEWEST = 4
"""Classes of which one can stand out: the spread of fewer than three others says little."""


def too_few(classes: int) -> str | None:
    """Why nothing can be said of so many classes, or None."""
    if classes >= FEWEST:
        return None
    return f"{classes} classes are too few to compare one with the others"


def standing_out(values: Tensor, least: float) -> Tensor:
    """How far each class lies above the mean of all but the highest, in their deviations: [K].

    The highest is left out, so that it cannot hide itself by widening the spread. ``least``: the
    smallest deviation that counts.
    """
    others = values.sort().values[:-1]
    return (values - others.mean()) / others.std().clamp(min=least)
