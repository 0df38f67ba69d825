"""As partition aggregation, but each voter sees several parts, and parts are smaller."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from defenses.base import Certificate, Certified, defense
from defenses.view import DefenderView
from defenses.votes.certificates import of_spread
from defenses.votes.election import Base, Election, checked, voters
from defenses.votes.partitions import checked_count, partitions, too_many
from defenses.votes.voters import Voters


@defense("finite_aggregation", source="Wang et al. 2022, arXiv:2202.02628", family="partition")
class FiniteAggregation(Certified):
    """Split the training set in many parts, and let voters see several of them, which overlap.

    Question: as `dpa`. There are ``partitions`` x ``spread`` parts and as many voters, each of
    which sees ``spread`` parts, so as many samples as one of `dpa` does. A sample moves ``spread``
    voters of many more; which ones is known, so a proof can count what those voters said.

    ``base``: as in `dpa`. Costs ``spread`` times what that costs. Deviates from the paper: its
    voters are networks. Does not apply to fewer samples than parts.
    """

    sees = frozenset({"suspect"})

    def __init__(self, partitions: int = 50, spread: int = 4, base: Base = "ridge") -> None:
        if spread < 1:
            raise ValueError(f"spread is a number from 1, got {spread}")
        self.partitions = checked_count(partitions)
        self.spread = spread
        self.base = checked(base)

    def supports(self, view: DefenderView) -> str | None:
        return too_many(self.partitions * self.spread, view.suspect)

    def train(self, view: DefenderView) -> nn.Module:
        count = self.partitions * self.spread
        parts = partitions(view.suspect, count)
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        steps = sorted(drawn[: self.spread].tolist())
        members = seen_by(parts, steps)
        return Spread(voters(self.base, view.suspect, members, view), steps)


def seen_by(parts: Sequence[Tensor], steps: Sequence[int]) -> list[Tensor]:
    """What each voter sees: voter i the parts i + s, modulo their number, for each s of ``steps``.

    As `defenses.votes.certificates.of_spread` has it.
    """
    count = len(parts)
    return [torch.cat([parts[(voter + s) % count] for s in steps]) for voter in range(count)]


class Spread(Election):
    """The class with most votes, the smaller one of equals; voters share parts."""

    def __init__(self, voters: Voters, steps: list[int]) -> None:
        super().__init__(voters)
        self.steps = steps

    def certify(self, images: Tensor) -> Certificate:
        labels, radius = of_spread(self.votes(images), self.classes, self.steps)
        return Certificate(labels, radius, "insertion or deletion")
