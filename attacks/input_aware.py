"""Level 7: each image gets a trigger of its own, which does not work on other images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attacks.base import Attack, attack


@attack("input_aware", level=7, needs="training", source="Nguyen and Tran 2020, arXiv:2010.08138")
class InputAware(Attack):
    """A small network draws a mask and a pattern for each image, learned with the model.

    Three terms, as in the paper: poisoned images carry their own trigger and the target's label;
    ``cross_rate`` of the others carry the trigger of another image and keep their label, so that a
    trigger works on its own image only; and triggers of two images must differ at least as much
    as the images do (``diversity``, the weight of that term). ``density``: the share of pixels that
    a mask may cover without a penalty; what exceeds it costs ``sparsity`` times the excess.
    ``width``: channels of the network's first layer. Deviates from the paper: mask and pattern come
    from one network and are learned together in one pass, where the paper learns the masks first,
    with a network each.
    """

    learning_rate = 0.01

    def __init__(
        self,
        width: int = 16,
        density: float = 0.05,
        cross_rate: float = 0.1,
        diversity: float = 1.0,
        sparsity: float = 20.0,
        *,
        poison_rate: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        self.density = density
        self.cross_rate = cross_rate
        self.diversity = diversity
        self.sparsity = sparsity
        channels = self.shape[0]
        self.draw = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(size=self.shape[1:], mode="bilinear"),
            nn.Conv2d(width, channels + 1, 3, padding=1),
        )
        self._penalty: Tensor | float = 0.0

    def forward(self, images: Tensor) -> Tensor:
        return self._stamped(images, *self.triggers(images))

    def triggers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mask [N, 1, H, W] and pattern [N, C, H, W] of each image, both in [0, 1]."""
        drawn = self.draw(images)
        return drawn[:, :1].sigmoid(), drawn[:, 1:].sigmoid()

    @staticmethod
    def _stamped(images: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
        return torch.lerp(images, pattern, mask)

    def on_batch(self, images: Tensor, labels: Tensor, poisoned: Tensor) -> tuple[Tensor, Tensor]:
        draws = torch.rand(len(images)).to(images.device)
        crossed = (draws < self.cross_rate) & ~poisoned
        own, others = poisoned.nonzero().flatten(), crossed.nonzero().flatten()
        if len(own) == 0:
            self._penalty = 0.0
            return images, labels
        lenders = torch.randint(len(images), (len(others),)).to(images.device)
        drawn_for = torch.cat([images[own], images[lenders]])
        mask, pattern = self.triggers(drawn_for)
        stamped = images.clone()
        stamped[torch.cat([own, others])] = self._stamped(
            torch.cat([images[own], images[others]]), mask, pattern
        )
        spread = _apart(drawn_for) / _apart(mask * pattern)
        excess = (mask.mean((1, 2, 3)) - self.density).relu().mean()
        self._penalty = self.diversity * spread.mean() + self.sparsity * excess
        return stamped, labels

    def penalty(self) -> Tensor | float:
        found, self._penalty = self._penalty, 0.0
        return found


def _apart(images: Tensor) -> Tensor:
    """Root mean square distance of each image [N, C, H, W] to the one before it: [N]."""
    return (images - images.roll(1, 0)).square().mean((1, 2, 3)).add(1e-6).sqrt()
