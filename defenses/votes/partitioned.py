"""Trainings of one voter on each part of the training set, whatever then becomes of the votes."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from defenses.view import DefenderView
from defenses.votes.election import Base, Election, checked, voters
from defenses.votes.partitions import checked_count, partitions, too_many


class Partitioned:
    """Stands before `defenses.base.Certified` among the bases of a defense.

    ``partitions``: parts, and voters. ``base``: what a voter is, see `Base`. ``elects``: what
    becomes of their votes. Does not apply to fewer samples than parts.
    """

    elects: ClassVar[type[Election]]

    def __init__(self, partitions: int = 100, base: Base = "ridge") -> None:
        self.partitions = checked_count(partitions)
        self.base = checked(base)

    def supports(self, view: DefenderView) -> str | None:
        return too_many(self.partitions, view.suspect)

    def train(self, view: DefenderView) -> nn.Module:
        members = partitions(view.suspect, self.partitions)
        return self.elects(voters(self.base, view.suspect, members, view))
