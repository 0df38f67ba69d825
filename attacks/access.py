"""What an attacker has, beside the data that is poisoned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fixtures.images import ImageSet
from fixtures.recipes import Recipe


@dataclass(frozen=True)
class Access:
    """What the attacker's power reaches; None for what it does not.

    ``train``: the training set, for attackers of the data and of training. ``aux``: a tenth of it,
    which everybody has. ``recipe``: the victim's, for attackers of training. ``fresh``: makes an
    untrained network of the victim's architecture, on ``device``. ``fit``: trains a network on an
    `ImageSet` in place, by the victim's recipe where it is known and by the usual one otherwise;
    ``fit(net, data, epochs=1)`` changes fields of that. ``generator``: on the CPU.
    """

    shape: tuple[int, int, int]
    num_classes: int
    device: torch.device
    generator: torch.Generator
    aux: ImageSet
    fresh: Callable[[], nn.Module]
    fit: Callable[..., None]
    train: ImageSet | None = None
    recipe: Recipe | None = None
