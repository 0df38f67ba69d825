"""A verdict must follow from its view and its seed: asked for once more, it must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.judge.defender import Defender
from bench.runtime.costs import Cost
from fixtures.blame import need

QUICK_S = 1.0
"""A verdict that took no longer is asked for again. On small data all are, and what is
not deterministic there is not on large data."""


def check_repeated(
    defender: Defender,
    method: str,
    verdict: NamedTuple,
    spent: Cost,
    ask: Callable[[Defender], Any],
) -> None:
    """Raise PluginError where another process with the same view and seed says something else.

    ``verdict``: what ``method`` gave, at the cost ``spent``; ``ask``: gives it again.
    """
    if spent.seconds > QUICK_S:
        return
    with defender.again() as other:
        second = ask(other)
    need(
        all(_equal(one, two) for one, two in zip(verdict, second, strict=True)),
        defender.plugin,
        f"{method} gives different results for the same view and seed",
    )


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.equal(one, two)
    return bool(one == two)
