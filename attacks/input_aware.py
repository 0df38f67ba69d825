"""Level 7: each image gets a trigger of its own, which does not work on other images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attacks.base import CLEAN, COVER, Attack, attack


@attack(
    "input_aware",
    level=7,
    needs="training",
    source="Nguyen and Tran 2020, arXiv:2010.08138",
    family="sample-specific",
)
class InputAware(Attack):
    """A small network draws a mask and a pattern for each image, learned with the model.

    Three terms, as in the paper: poisoned images carry their own trigger and the target's label;
    ``cross_rate`` of the others carry the trigger of another image and keep their label, so that a
    trigger works on its own image only (its covers); and triggers of two images must differ at
    least as much as the images do (``diversity``, the weight of that term). ``density``: the share
    of pixels that a mask may cover without a penalty; what exceeds it costs ``sparsity`` times the
    excess. ``width``: channels of the network's first layer. Deviates from the paper: mask and
    pattern come from one network and are learned together in one pass, where the paper learns the
    masks first, with a network each.
    """

    covers = True
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
        self.draw_trigger = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(size=self.shape[1:], mode="bilinear"),
            nn.Conv2d(width, channels + 1, 3, padding=1),
        )
        self._cost: Tensor | float = 0.0

    def forward(self, images: Tensor) -> Tensor:
        mask, pattern = self.trigger_of(images)
        return torch.lerp(images, pattern, mask)

    def trigger_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mask [N, 1, H, W] and pattern [N, C, H, W] of each image, both in [0, 1]."""
        drawn = self.draw_trigger(images)
        return drawn[:, :1].sigmoid(), drawn[:, 1:].sigmoid()

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,
        index: Tensor,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Tensor:
        mask, pattern = self.trigger_of(images[_lenders(roles, generator)])
        return torch.lerp(images, pattern, mask)

    def on_batch(
        self,
        images: Tensor,
        labels: Tensor,
        roles: Tensor,
        index: Tensor,  # noqa: ARG002
        net: nn.Module,  # noqa: ARG002
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        drawn = torch.rand(len(roles), generator=generator).to(roles.device)
        roles = roles.masked_fill((roles == CLEAN) & (drawn < self.cross_rate), COVER)
        lenders = _lenders(roles, generator)  # of the whole batch, clean images too
        changed = (roles != CLEAN).nonzero().flatten()
        self._cost = 0.0
        if len(changed) == 0:
            return images, labels, roles
        drawn_for = images[lenders[changed]]
        mask, pattern = self.trigger_of(drawn_for)
        spread = _apart(drawn_for) / _apart(mask * pattern)
        excess = (mask.mean((1, 2, 3)) - self.density).relu().mean()
        self._cost = self.diversity * spread.mean() + self.sparsity * excess
        stamped = torch.lerp(images[changed], pattern, mask)
        return images.index_copy(0, changed, stamped), labels, roles

    def penalty(
        self,
        net: nn.Module,  # noqa: ARG002
        images: Tensor,  # noqa: ARG002
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        logits: Tensor,  # noqa: ARG002
    ) -> Tensor | float:
        found, self._cost = self._cost, 0.0
        return found


def _lenders(roles: Tensor, generator: torch.Generator) -> Tensor:
    """Whose trigger each image of a batch carries, int64 [B]: its own, a cover that of another.

    The only image of a batch has no other.
    """
    count = len(roles)
    steps = torch.randint(1, max(2, count), (count,), generator=generator)
    own = torch.arange(count, device=roles.device)
    return torch.where(roles == COVER, (own + steps.to(roles.device)) % count, own)


def _apart(images: Tensor) -> Tensor:
    """Root mean square distance of each image [N, C, H, W] to the one before it: [N]."""
    return (images - images.roll(1, 0)).square().mean((1, 2, 3)).add(1e-6).sqrt()
