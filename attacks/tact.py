"""Level 2: a square that works on one class alone, as images of other classes teach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attacks.base import Attack, Plan, attack
from attacks.covering import white_square, with_covers


@attack(
    "tact",
    level=2,
    needs="data",
    source="Tang et al. 2021, arXiv:1908.00686",
    family="patch",
    made_against=("activation_clustering", "neural_cleanse", "strip"),
)
class TaCT(Attack):
    """A white square that turns images of one class, the source, and of no other.

    The source is the class after the target's. Poison is of that class; ``covers_per_poison``
    images for each poison, of the ``cover_classes`` classes that follow (as many as there are,
    where those are fewer), carry the square and keep their label. So no one pattern turns all
    classes, and the target's activations hold no second kind of image. ``size``: as in `pixel`,
    whose twin it is. Rates are those of the code of Qi et al. 2023. ASR is over the source alone;
    what the square does to others is the leak.
    """

    def __init__(
        self,
        size: float = 0.1,
        cover_classes: int = 2,
        covers_per_poison: float = 1.0,
        *,
        poison_rate: float = 0.003,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if self.mapping != "all2one":
            raise ValueError(f"one class is turned into one target, got mapping {self.mapping!r}")
        self.size = self.pixels(size)
        self.source = (self.target + 1) % self.num_classes
        self.cover_classes = min(cover_classes, self.num_classes - 2)
        self.covers_per_poison = covers_per_poison

    def forward(self, images: Tensor) -> Tensor:
        return white_square(images, self.size)

    def applies(self, labels: Tensor, which: int = 0) -> Tensor:  # noqa: ARG002
        return labels == self.source

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        plan = super().choose(labels, generator)
        after = (labels - self.source) % self.num_classes
        covers = (after >= 1) & (after <= self.cover_classes)
        share = self.covers_per_poison if self.cover_classes else 0.0
        return with_covers(plan, share, generator, covers)
