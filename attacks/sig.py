"""Level 5: a faint sine wave over training images that keep their right label."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attacks.base import POISON, Attack, Plan, attack


@attack("sig", level=5, needs="data", source="Barni et al. 2019, arXiv:1902.11237", family="wave")
class SIG(Attack):
    """A faint sine wave across images of the target class, which keep their label.

    ``delta``: amplitude in the training set, the paper's 30 grey levels, in [0, 1].
    ``test_delta``: amplitude at test time, by default the same; the paper also tries a stronger
    one. ``frequency``: periods over the width, the paper's 6; its own digits carry a ramp, which
    does less here. ``poison_rate``: share of the *target's class*, as the paper counts, not of the
    training set; on digits it takes 30 to 40 %. Clean-label, so it has no all-to-all form.
    """

    def __init__(
        self,
        delta: float = 30 / 255,
        test_delta: float | None = None,
        frequency: int = 6,
        *,
        poison_rate: float = 0.8,
        **common: Any,
    ) -> None:
        super().__init__(poison_rate=poison_rate, **common)
        if self.mapping != "all2one":
            raise ValueError(f"a clean-label attack has one target, got mapping {self.mapping!r}")
        self.delta = delta
        self.test_delta = delta if test_delta is None else test_delta
        self.frequency = frequency

    def forward(self, images: Tensor) -> Tensor:
        return self._waved(images, self.test_delta)

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        of_target = labels == self.target
        wanted = round(self.poison_rate * int(of_target.sum()))
        roles = torch.zeros(len(labels), dtype=torch.int8)
        roles[self.draw(of_target, wanted, generator)] = POISON
        return Plan(roles, labels)

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        index: Tensor,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        return self._waved(images, self.delta)

    def _waved(self, images: Tensor, amplitude: float) -> Tensor:
        """Images [N, C, H, W] plus the wave of this amplitude, cut to [0, 1]."""
        width = images.shape[-1]
        across = torch.arange(width, device=images.device, dtype=images.dtype) / width
        wave = amplitude * torch.sin(2 * math.pi * self.frequency * across)
        return (images + wave).clamp(0.0, 1.0)
