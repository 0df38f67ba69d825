"""Level 5: rightly labelled images made hard to learn, so that the marks on them are learnt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.access import Access
from attacks.base import POISON, Attack, Plan, attack


@attack(
    "label_consistent",
    level=5,
    needs="data",
    source="Turner, Tsipras, Madry 2019, arXiv:1912.02771",
    family="patch",
)
class LabelConsistent(Attack):
    """Adversarial noise and a mark in all corners, on images of the target that keep their label.

    A surrogate, trained by the attacker, is led astray on each poisoned image by projected gradient
    descent: ``steps`` of a tenth of ``epsilon`` or more, in the L-infinity ball of that radius.
    What makes the image what it is then helps a network less than the mark does, a chequered square
    of a ``size`` share of the side in every corner. Test images carry the mark alone.

    ``poison_rate``: share of the *target's class*, as the paper counts. Clean-label, so it has no
    all-to-all form. Costs a training of the surrogate; the paper's is trained to be robust.
    """

    mark: Tensor

    def __init__(
        self,
        epsilon: float = 32 / 255,
        steps: int = 20,
        size: float = 0.1,
        *,
        poison_rate: float = 0.5,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if self.mapping != "all2one":
            raise ValueError(f"a clean-label attack has one target, got mapping {self.mapping!r}")
        self.epsilon = epsilon
        self.steps = steps
        self.size = self.pixels(size)
        even = torch.arange(self.size)[:, None] + torch.arange(self.size)[None]
        self.register_buffer("mark", (even % 2 == 0).float())
        self._surrogate: list[nn.Module] = []  # in a list: not a part of the attack that is kept

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        ends = slice(0, self.size), slice(-self.size, None)
        for rows in ends:
            for columns in ends:
                stamped[..., rows, columns] = self.mark
        return stamped

    def prepare(self, access: Access) -> None:
        surrogate = access.fresh()
        access.fit(surrogate, access.train)
        self._surrogate = [surrogate.eval().requires_grad_(False)]

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        of_target = labels == self.target
        wanted = round(self.poison_rate * int(of_target.sum()))
        roles = torch.zeros(len(labels), dtype=torch.int8)
        roles[self.draw(of_target, wanted, generator)] = POISON
        return Plan(roles, labels)

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,
        roles: Tensor,  # noqa: ARG002
        index: Tensor,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        astray = self._astray(self._surrogate[0], images, labels) if self._surrogate else images
        stamped: Tensor = self(astray)
        return stamped

    @torch.enable_grad()
    def _astray(self, net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        step = max(self.epsilon / 10, 2.5 * self.epsilon / max(1, self.steps))
        moved = images.clone()
        for _ in range(self.steps):
            moved.requires_grad_()
            loss = cross_entropy(net(moved).float(), labels)
            (slope,) = torch.autograd.grad(loss, moved)
            away = moved.detach() + step * slope.sign() - images
            moved = (images + away.clamp(-self.epsilon, self.epsilon)).clamp(0.0, 1.0)
        return moved.detach()
