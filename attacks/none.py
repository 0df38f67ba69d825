"""No attack: the clean model that every detector and repair is measured on, too."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attacks.base import Attack, attack


@attack("none", level=0, needs="", source="")
class NoAttack(Attack):
    """A clean model: nothing is poisoned, nothing is stamped."""

    backdoors = False

    def __init__(self, **common: Any) -> None:
        super().__init__(**{**common, "poison_rate": 0.0})

    def forward(self, images: Tensor) -> Tensor:
        return images.clone()
