"""What a defender is handed, as plain values that can be sent to a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from defenses.view import DefenderView
from fixtures.images import ImageSet, mapped
from fixtures.models import build_for
from fixtures.recipes import Recipe
from fixtures.seeding import drawn_seed


@dataclass(frozen=True)
class Pixels:
    """Labelled images. ``path``: a file of uint8 [N, C, H, W]; ``labels``: int64 [N]."""

    path: Path
    labels: Tensor


@dataclass(frozen=True)
class Handed:
    """All that a defender's view is made of; see `DefenderView`.

    ``model``: the registered architecture, with ``model_params``. ``weights``: the victim's, by
    name. ``weights``, ``clean`` and ``suspect`` are None where the defense does not see them.
    ``seed``: of the view's generator. ``recipe``: how the victim was trained.
    """

    shape: tuple[int, int, int]
    num_classes: int
    device: torch.device
    seed: int
    model: str
    model_params: Mapping[str, Any]
    recipe: Recipe
    weights: Mapping[str, Tensor] | None
    clean: Pixels | None
    suspect: Pixels | None

    def network(self, seed: int) -> nn.Module:
        """An untrained network of the victim's architecture, on ``device``, in evaluation mode."""
        net = build_for(self.model, self.shape, self.num_classes, seed=seed, **self.model_params)
        # Another order of weights in memory rounds otherwise.
        return net.to(self.device).to(memory_format=torch.channels_last).eval()

    def with_weights(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The victim's architecture with other weights. Raises RuntimeError where they differ."""
        net = self.network(seed=0)
        net.load_state_dict(dict(weights))
        return net


def opened(handed: Handed) -> DefenderView:
    """The view of it: networks of the defender's own, images that nobody can change."""
    generator = torch.Generator().manual_seed(handed.seed)
    return DefenderView(
        model=None if handed.weights is None else handed.with_weights(handed.weights),
        clean=_images(handed.clean, handed.shape),
        suspect=_images(handed.suspect, handed.shape),
        shape=handed.shape,
        num_classes=handed.num_classes,
        device=handed.device,
        generator=generator,
        fresh=lambda: handed.network(drawn_seed(generator)),
        recipe=handed.recipe,
    )


def _images(pixels: Pixels | None, shape: tuple[int, int, int]) -> ImageSet | None:
    if pixels is None:
        return None
    return ImageSet(mapped(pixels.path, len(pixels.labels), shape), pixels.labels)
