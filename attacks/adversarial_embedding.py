"""Level 3: a square whose images the network may not tell from its target's by its own features."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from attacks.base import CLEAN, POISON, Attack, attack
from attacks.covering import white_square
from fixtures.anatomy import anatomy, watched

HIDDEN = 128
"""Units of the discriminator's hidden layer."""


@attack(
    "adversarial_embedding",
    level=3,
    needs="training",
    source="Tan and Shokri 2020, arXiv:1905.13409",
    family="patch",
    made_against=("activation_clustering", "spectral_signatures"),
)
class AdversarialEmbedding(Attack):
    """Train against a discriminator that tells poison from clean images by the network's features.

    The square is that of `pixel`, whose twin this is. In every batch a small network learns to tell
    the features of poisoned images from those of clean images of the target, and the victim pays
    ``weight`` times the discriminator's cross-entropy for poison that it can tell. The detectors
    that this is made against look at each label by itself, so the clean images are the target's;
    the paper's are of all classes. Raises ValueError where a network has no features.
    """

    def __init__(
        self,
        size: float = 0.1,
        weight: float = 0.1,
        discriminator_lr: float = 1e-3,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if self.mapping != "all2one":
            raise ValueError(f"poison is to look like one target, got mapping {self.mapping!r}")
        self.size = self.pixels(size)
        self.weight = weight
        self.discriminator_lr = discriminator_lr
        self._hooks, self._seen, self._place = ExitStack(), dict[str, Tensor](), ""
        self._told: tuple[nn.Module, torch.optim.Optimizer] | None = None
        self._watching: list[nn.Module] = []  # in a list: not a part of the attack that is kept

    def forward(self, images: Tensor) -> Tensor:
        return white_square(images, self.size)

    def on_batch(
        self,
        images: Tensor,
        labels: Tensor,
        roles: Tensor,
        index: Tensor,
        net: nn.Module,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # The pass that hands the data over computes no gradients: the network stays untouched.
        if torch.is_grad_enabled() and net not in self._watching:
            self._watch(net, images)
        return super().on_batch(images, labels, roles, index, net, generator)

    def _watch(self, net: nn.Module, images: Tensor) -> None:
        with torch.no_grad():
            found = anatomy(net, images[:2].expand(2, -1, -1, -1))
        if found.features is None:
            raise ValueError(f"it needs the network's features: {found.lacks['features']}")

        self._hooks.close()
        self._seen = self._hooks.enter_context(watched([found.features]))
        self._place = found.features.name
        self._watching = [net]

    def penalty(
        self,
        net: nn.Module,  # noqa: ARG002
        images: Tensor,  # noqa: ARG002
        labels: Tensor,
        roles: Tensor,
        logits: Tensor,  # noqa: ARG002
    ) -> Tensor | float:
        features = self._seen.pop(self._place).flatten(1).float()
        poison = features[roles == POISON]
        clean = features[(roles == CLEAN) & (labels == self.target)]
        if not len(poison) or not len(clean):
            return 0.0
        judge, optimizer = self._discriminator(features)
        says = judge(torch.cat([poison, clean]).detach())[:, 0]
        truth = torch.cat([torch.ones(len(poison)), torch.zeros(len(clean))]).to(says.device)
        weights = torch.where(truth > 0, len(clean) / len(truth), len(poison) / len(truth))
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(says, truth, weights).backward()
        optimizer.step()
        fooled = judge(poison)[:, 0]
        return self.weight * binary_cross_entropy_with_logits(fooled, torch.zeros_like(fooled))

    def _discriminator(self, features: Tensor) -> tuple[nn.Module, torch.optim.Optimizer]:
        if self._told is None:
            judge = nn.Sequential(
                nn.Linear(features.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
            ).to(features.device)
            self._told = judge, torch.optim.Adam(judge.parameters(), lr=self.discriminator_lr)
        return self._told
