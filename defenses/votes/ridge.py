"""Voters that are ridge regressions on fixed features: learnt in closed form, nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from defenses.votes.gradients import oriented_gradients
from defenses.votes.voters import Voters
from fixtures.images import ImageSet

SCORES = 1 << 24
"""Scores that are held at a time: so many voters say theirs together."""


class Ridges(Voters):
    """One ridge regression from `oriented_gradients` to the classes for each part of a set.

    ``members``: positions in ``data`` of each voter's samples, int64. ``penalty``: of the squared
    weights, where features have unit length. A voter without samples says 0 of every class. Each is
    learnt by itself: not a bit of it depends on what others see.
    """

    weights: Tensor

    def __init__(
        self, data: ImageSet, members: Sequence[Tensor], classes: int, penalty: float = 0.03
    ) -> None:
        super().__init__(len(members), classes)
        features = torch.cat([oriented_gradients(images) for _, images in data.batches()])
        wanted = one_hot(data.labels, classes).float() - 1 / classes
        weights = torch.zeros(self.voters, features.shape[1], classes)
        for voter, index in enumerate(members):
            if len(index):
                some = features[index]
                kernel = some @ some.T
                kernel.diagonal().add_(penalty)
                weights[voter] = some.T @ torch.linalg.solve(kernel, wanted[index])
        self.register_buffer("weights", weights)

    def scores(self, images: Tensor) -> Iterator[Tensor]:
        features = oriented_gradients(images)
        most = max(1, SCORES // (len(images) * self.classes))
        for some in self.weights.split(most):
            each = some.permute(1, 0, 2).flatten(1)
            yield (features @ each).view(len(images), -1, self.classes)
