"""Voters that are small convolutional networks, trained together in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from defenses.votes.voters import Voters
from fixtures.images import ImageSet

TOGETHER = 64
"""Networks that are trained and asked at a time."""


class Small(nn.Sequential):
    """Two strided convolutions and a linear layer: for the few images that a voter has."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * width, classes),
        )


class Networks(Voters):
    """A small network for each part of a set, from weights that are the same for all.

    ``members``: positions in ``data`` of each voter's samples, int64. ``steps`` of SGD with
    momentum, each on ``batch`` of its own samples that are drawn with replacement by a generator of
    its own: what a voter learns is a function of its samples alone. A voter without samples keeps
    the first weights.
    """

    def __init__(
        self,
        data: ImageSet,
        members: Sequence[Tensor],
        classes: int,
        steps: int = 150,
        batch: int = 16,
        width: int = 8,
        learning_rate: float = 0.05,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(len(members), classes)
        self.steps, self.batch = steps, batch
        self.learning_rate, self.momentum = learning_rate, momentum
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # fixed: no draw may pass from one training set to another
            self.first = Small(data.shape[0], classes, width)
        found: dict[str, list[Tensor]] = {}
        for some in torch.arange(self.voters).split(TOGETHER):
            learnt = self._learnt(data, [members[int(voter)] for voter in some])
            for name, weights in learnt.items():
                found.setdefault(name, []).append(weights)
        self.names = list(found)
        for name in self.names:
            self.register_buffer(_plain(name), torch.cat(found[name]))

    def _learnt(self, data: ImageSet, members: Sequence[Tensor]) -> dict[str, Tensor]:
        """Weights by name, [V, ..], of voters that learn together."""
        weights, _ = stack_module_state([self.first] * len(members))
        weights = {name: part.detach().clone() for name, part in weights.items()}
        speed = {name: torch.zeros_like(part) for name, part in weights.items()}
        idle = torch.tensor([len(index) == 0 for index in members])
        drawn = [torch.Generator().manual_seed(0) for _ in members]

        def loss(one: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(functional_call(self.first, one, (images,)), labels)

        gradient = vmap(grad(loss))
        for step in range(self.steps):
            index = torch.stack([
                own[torch.randint(len(own), (self.batch,), generator=generator)]
                if len(own) else torch.zeros(self.batch, dtype=torch.int64)
                for own, generator in zip(members, drawn, strict=True)
            ])  # fmt: skip
            images = data.batch(index.flatten()).unflatten(0, index.shape)
            found = gradient(weights, images, data.labels[index])
            rate = self.learning_rate * (1 - step / self.steps)
            for name, part in found.items():
                part[idle] = 0
                speed[name] = self.momentum * speed[name] + part
                weights[name] = weights[name] - rate * speed[name]
        return weights

    @torch.no_grad()
    def scores(self, images: Tensor) -> Iterator[Tensor]:
        stacked = {name: self.get_buffer(_plain(name)) for name in self.names}
        ask = vmap(lambda one: functional_call(self.first, one, (images,)))
        for some in torch.arange(self.voters).split(TOGETHER):
            yield ask({name: part[some] for name, part in stacked.items()}).transpose(0, 1)


def _plain(name: str) -> str:
    """A name that a buffer may have."""
    return name.replace(".", "_")
