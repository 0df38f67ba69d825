"""Level 7: a network draws faint noise for each image, learnt with the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from attacks.base import Attack, attack


@attack(
    "lira",
    level=7,
    needs="training",
    source="Doan et al. 2021, LIRA, ICCV",
    family="sample-specific",
    made_against=("neural_cleanse", "fine_pruning", "strip"),
)
class LIRA(Attack):
    """Noise no stronger than ``epsilon``, drawn by a network for each image, learnt with the model.

    Two stages, as in the paper: for a ``learning`` share of the passes generator and model are
    learnt together, then the generator is fixed and the model goes on. ``width``: channels of its
    first layer. Deviates from the paper: both learn in the same step, on ``poison_rate`` of the
    images where the paper gives half of the loss to triggered ones; a smaller generator; and
    ``epsilon`` is larger than its 0.01 of the value range, which 8 bits would hardly keep.
    """

    learning_rate = 0.002

    def __init__(
        self,
        epsilon: float = 12 / 255,
        learning: float = 0.5,
        width: int = 16,
        *,
        poison_rate: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        self.epsilon = epsilon
        self.learning = learning
        self._fixed = False
        channels = self.shape[0]
        self.noise = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(size=self.shape[1:], mode="bilinear"),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def trigger_parameters(self) -> Iterable[nn.Parameter]:
        return self.noise.parameters()

    def forward(self, images: Tensor) -> Tensor:
        drawn = self.epsilon * torch.tanh(self.noise(images))
        return (images + (drawn.detach() if self._fixed else drawn)).clamp(0.0, 1.0)

    def on_epoch(self, epoch: int, epochs: int, net: nn.Module) -> None:  # noqa: ARG002
        self._fixed = epoch >= self.learning * epochs
