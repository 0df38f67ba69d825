"""Level 7: each image gets a trigger of its own, which does not work on other images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from attacks.access import Access
from attacks.base import CLEAN, COVER, Attack, attack

MASKED, MASKED_PIXELS = 128, 2**17
"""Images of a batch that the mask's network learns from, or as many as have so many pixels: 4 at
least."""

SHARP = 20
"""How steeply a mask rises from no pixel to the whole of it; see `InputAware.mask_of`."""


@attack(
    "input_aware",
    level=7,
    needs="training",
    source="Nguyen and Tran 2020, arXiv:2010.08138",
    family="sample-specific",
)
class InputAware(Attack):
    """Two small networks draw a mask and a pattern for each image.

    As in the paper, the mask's network is learned first, without the victim: few pixels
    (``density``; what a pixel's mask exceeds it by costs ``sparsity``), and masks of two images
    that differ at least as much as the images do (``diversity``, the weight of that term). Then the
    pattern's is learned with the victim: poisoned images carry their own trigger and the target's
    label; ``cross_rate`` of the others carry the trigger of another image and keep their label, so
    that a trigger works on its own image only (its covers); and patterns of two images must differ,
    too. ``width``: channels of each network's first layer. Deviates from the paper: smaller
    networks, and ``mask_steps`` batches where the paper makes 25 passes; ``sparsity`` is a quarter
    of the paper's, whose images are normalised and so lie about four times as far apart; a mask of
    fewer pixels than ``density`` costs as much, so that no image is left without a trigger.
    """

    covers = True
    learning_rate = 0.01

    def __init__(
        self,
        width: int = 16,
        density: float = 0.032,
        cross_rate: float = 0.1,
        diversity: float = 1.0,
        sparsity: float = 25.0,
        mask_steps: int = 200,
        *,
        poison_rate: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        self.density = density
        self.cross_rate = cross_rate
        self.diversity = diversity
        self.sparsity = sparsity
        self.mask_steps = mask_steps
        self.draw_mask = self._network(width, 1)
        self.draw_pattern = self._network(width, self.shape[0])
        self._cost: Tensor | float = 0.0

    def _network(self, width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(self.shape[0], width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(size=self.shape[1:], mode="bilinear"),
            nn.Conv2d(width, outputs, 3, padding=1),
        )

    def prepare(self, access: Access) -> None:
        train = access.train
        assert train is not None  # an attacker of training has it
        # From the wanted density on: a mask that is all pixels falls to none, and stays there.
        soft = torch.tensor(0.5 + math.atanh(2 * self.density - 1) / SHARP)
        nn.init.constant_(self.draw_mask[-1].get_parameter("bias"), float(soft.logit()))
        optimizer = torch.optim.Adam(self.draw_mask.parameters(), lr=self.learning_rate)
        count = max(4, min(MASKED, MASKED_PIXELS // math.prod(self.shape[1:])))
        for _ in range(self.mask_steps):
            index = torch.randint(len(train), (count,), generator=access.generator)
            images = train.batch(index, access.device)
            mask = self.mask_of(images)
            excess = (mask - self.density).relu().mean()
            short = (self.density - mask.mean((1, 2, 3))).relu().mean()
            spread = (_apart(images) / _apart(mask)).mean()
            optimizer.zero_grad()
            (self.sparsity * (excess + short) + self.diversity * spread).backward()
            optimizer.step()

    def trigger_parameters(self) -> Iterable[nn.Parameter]:
        return self.draw_pattern.parameters()

    def forward(self, images: Tensor) -> Tensor:
        mask, pattern = self.trigger_of(images)
        return torch.lerp(images, pattern, mask)

    def mask_of(self, images: Tensor) -> Tensor:
        """[N, 1, H, W] in [0, 1], nearly all of it close to one of them, as in the paper's code."""
        soft = self.draw_mask(images).sigmoid()
        return (torch.tanh(SHARP * soft - SHARP / 2) + 1) / 2

    def trigger_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mask [N, 1, H, W] and pattern [N, C, H, W] of each image, both in [0, 1]."""
        with torch.no_grad():
            mask = self.mask_of(images)
        return mask, self.draw_pattern(images).sigmoid()

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
        self._cost = self.diversity * (_apart(drawn_for) / _apart(pattern)).mean()
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
