"""The votes of many small classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from defenses.view import DefenderView
from defenses.votes.certificates import counted
from defenses.votes.networks import Networks
from defenses.votes.ridge import Ridges
from defenses.votes.voters import Voters
from fixtures.images import ImageSet

Base = Literal["ridge", "network"]
"""What each voter is: a ridge regression on oriented gradients, or a small network."""


MAKERS: dict[str, Callable[[ImageSet, Sequence[Tensor], int], Voters]] = {
    "ridge": Ridges,
    "network": Networks,
}


def checked(base: str) -> str:
    """The name of a base. Raises ValueError, with those that there are."""
    if base not in get_args(Base):
        raise ValueError(f"base is one of {', '.join(get_args(Base))}, got {base!r}")
    return base


def voters(base: str, data: ImageSet, members: Sequence[Tensor], view: DefenderView) -> Voters:
    """One voter for each part of ``data``, on the view's device."""
    return MAKERS[base](data, members, view.num_classes).to(view.device)


class Election(nn.Module):
    """Voters, and what they say in float32, whatever the forward pass is computed in elsewhere."""

    def __init__(self, voters: Voters) -> None:
        super().__init__()
        self.voters = voters

    @property
    def classes(self) -> int:
        return self.voters.classes

    def scores(self, images: Tensor) -> Iterator[Tensor]:
        """What some voters after others say: float32 [N, V, K]."""
        with torch.autocast(images.device.type, enabled=False):
            yield from self.voters.scores(images.float())

    def forward(self, images: Tensor) -> Tensor:
        """How many vote for each class, float32 [N, K]: most votes win, the smaller of equals."""
        return counted(self.votes(images), self.classes).float()

    def votes(self, images: Tensor) -> Tensor:
        """The class that each voter is for: int64 [N, P]; of equal scores the smaller one."""
        return torch.cat([some.argmax(2) for some in self.scores(images)], 1)
