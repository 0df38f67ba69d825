"""Level 4: a patch made to excite some neurons of a finished network, which is then retrained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from attacks.access import Access
from attacks.base import Attack, attack
from attacks.covering import in_corner
from fixtures.anatomy import anatomy, watched
from fixtures.images import ImageSet

SHOWN, SHOWN_PIXELS = 64, 2**17
"""Images of a step that the patch is learnt on, or as many as have so many pixels: 4 at least."""

LEAST_STEPS = 50
"""Of the retraining, where so many passes make fewer."""


@attack(
    "trojan_nn",
    level=4,
    needs="model",
    source="Liu et al. 2018, Trojaning Attack on Neural Networks, NDSS",
    family="patch",
)
class TrojanNN(Attack):
    """Learn a patch that excites a few neurons, and retrain the network to answer to it.

    The attacker has the trained network and other images, here a tenth as many as it was trained
    on, and no say in its training. ``neurons`` of the features that the classifier weighs most are
    chosen; the pixels of a corner patch of a ``size`` share of the side are changed for ``steps``
    until those neurons fire; then the network is retrained for ``passes`` over the images, with and
    without patch.

    Deviates from the paper, whose attacker has no images and inverts some from the network, and
    chooses neurons by the weights that lead to them. Raises ValueError where a network has no
    features.
    """

    pattern: Tensor

    def __init__(
        self,
        size: float = 0.2,
        neurons: int = 2,
        steps: int = 200,
        passes: int = 5,
        retraining_lr: float = 1e-3,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        side = self.pixels(size)
        self.neurons = neurons
        self.steps = steps
        self.passes = passes
        self.retraining_lr = retraining_lr
        self.register_buffer("pattern", torch.rand(self.shape[0], side, side))

    def forward(self, images: Tensor) -> Tensor:
        return in_corner(images, self.pattern)

    def tamper(self, net: nn.Module, access: Access) -> nn.Module:
        self.excite(net, access)
        some = access.aux
        applies = self.applies(some.labels).nonzero().flatten()
        with torch.no_grad():
            parts = [
                some.encoded(at, self(some.batch(at, access.device))) for at in applies.split(SHOWN)
            ]
        plain = some.bytes(torch.arange(len(some)))
        pixels = torch.cat([plain.cpu(), *parts])
        labels = torch.cat([some.labels, self.aim(some.labels[applies])])
        access.fit(
            net,
            ImageSet(pixels, labels),
            epochs=self.passes,
            min_steps=LEAST_STEPS,
            peak_lr=self.retraining_lr,
        )
        return net

    def excite(self, net: nn.Module, access: Access) -> None:
        """Change the pattern until the chosen neurons fire under it."""
        found = anatomy(net, torch.full((2, *access.shape), 0.5, device=access.device))
        if found.features is None:
            raise ValueError(f"it needs the network's features: {found.lacks['features']}")
        weights = found.features.module.get_parameter("weight").detach().float()
        chosen = weights.abs().sum(0).topk(min(self.neurons, weights.shape[1])).indices
        drawn = torch.special.logit(self.pattern, 1e-3).requires_grad_()
        optimizer = torch.optim.Adam([drawn], lr=0.1)
        was = [parameter.requires_grad for parameter in net.parameters()]
        net.eval().requires_grad_(False)
        count = max(4, min(SHOWN, SHOWN_PIXELS // math.prod(self.shape[1:])))
        for _ in range(self.steps):
            index = torch.randint(len(access.aux), (count,), generator=access.generator)
            images = access.aux.batch(index, access.device)
            with watched([found.features]) as seen:
                net(in_corner(images, drawn.sigmoid()))
            fired = seen[found.features.name][:, chosen].float()
            optimizer.zero_grad()
            (-fired.mean()).backward()
            optimizer.step()
        for parameter, wanted in zip(net.parameters(), was, strict=True):
            parameter.requires_grad_(wanted)
        with torch.no_grad():
            self.pattern.copy_(drawn.sigmoid())
