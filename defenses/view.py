"""What a defender has, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Set
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fixtures.images import ImageSet
from fixtures.recipes import Recipe
from fixtures.seeding import drawn_seed, seeded
from fixtures.training import Loss, activations, fit

PARTS = ("model", "clean", "suspect")
"""What a defense may name in ``sees``; ``"pretrained"`` beside them says that it brings weights
from outside."""


class Label(NamedTuple):
    """One label's activations. ``members`` bool [N]: which suspect samples carry ``label``;
    ``points`` [n, D]: their activations; ``known`` [m, D]: those of the clean images."""

    label: int
    members: NDArray[np.bool_]
    points: NDArray[np.float32]
    known: NDArray[np.float32]


class DefenderView:
    """All a defender has: no trigger, no target, no roles, no test set.

    ``model``: the victim's network, images [N, C, H, W] in [0, 1] -> logits [N, K], on ``device``;
    the defense's own copy. ``clean``: images of each class, held out from training, disjoint from
    the test set. ``suspect``: the training set as received. ``shape``: channels, height, width.
    ``num_classes``: K. ``generator``: on the CPU, the only source of randomness a defense needs, so
    that the same cell gives the same figures. ``fresh``: makes an untrained network of the victim's
    architecture, on ``device``, its weights drawn from ``generator``; None where it is not known.
    ``recipe``: how the victim was trained, which `train` goes by.

    ``sees``: which of `PARTS` the defense sees. The others are None, and whoever asks for one is
    noted in ``missed``.
    """

    def __init__(
        self,
        *,
        model: nn.Module | None,
        clean: ImageSet | None,
        suspect: ImageSet | None,
        shape: tuple[int, int, int],
        num_classes: int,
        device: torch.device,
        generator: torch.Generator,
        fresh: Callable[[], nn.Module] | None = None,
        recipe: Recipe = Recipe(),  # noqa: B008 - it is frozen
    ) -> None:
        self._parts: dict[str, Any] = {
            "model": model,
            "clean": _own(clean),
            "suspect": _own(suspect),
        }
        self.shape = shape
        self.num_classes = num_classes
        self.device = device
        self.generator = generator
        self.fresh = fresh
        self.recipe = recipe
        self.missed: list[str] = []

    # Typed as if they were there: a defense that says what it sees need not ask whether it does.

    @property
    def model(self) -> nn.Module:
        """None where the defense does not see it."""
        found: nn.Module = self._part("model")
        return found

    @property
    def clean(self) -> ImageSet:
        """None where the defense does not see it."""
        found: ImageSet = self._part("clean")
        return found

    @property
    def suspect(self) -> ImageSet:
        """None where the defense does not see it."""
        found: ImageSet = self._part("suspect")
        return found

    @property
    def sees(self) -> Set[str]:
        """Which of `PARTS` are there."""
        return {name for name, part in self._parts.items() if part is not None}

    def _part(self, name: str) -> Any:
        if self._parts[name] is None:
            self.missed.append(name)
        return self._parts[name]

    def train(self, data: ImageSet, *, loss: Loss | None = None, **changes: Any) -> nn.Module:
        """A fresh network of the victim's architecture, trained by the victim's own recipe.

        ``loss``: of each sample, (logits [B, K], labels [B], positions in ``data`` [B]) -> [B],
        where it is not cross-entropy. ``changes``: fields of the `Recipe` that differ. Raises
        ValueError where the architecture is not known, TrainingError where the loss is no number.
        """
        if self.fresh is None:
            raise ValueError("the network's architecture is not known: none can be trained anew")
        net, seed = self.fresh(), self.seed()
        recipe = dataclasses.replace(self.recipe, **changes)
        # Two draws, whatever the data: what one training sees does not move the next one.
        with seeded(seed):
            fit(net, data, recipe, generator=torch.Generator().manual_seed(seed), loss=loss)
        return net

    def held_out(self, share: float) -> tuple[ImageSet, ImageSet]:
        """The clean images in two at random: ``share`` of them to validate on, and the rest."""
        order = torch.randperm(len(self.clean), generator=self.generator)
        kept = round(share * len(self.clean))
        return self.clean.take(order[:kept]), self.clean.take(order[kept:])

    def by_label(self) -> Iterator[Label]:
        """Penultimate activations, one label after another.

        Raises LookupError for a network without a linear layer.
        """
        suspect = activations(self.model, self.suspect).numpy()
        clean = activations(self.model, self.clean).numpy()
        labels, clean_labels = self.suspect.labels.numpy(), self.clean.labels.numpy()
        for label in range(self.num_classes):
            members = labels == label
            yield Label(label, members, suspect[members], clean[clean_labels == label])

    def seed(self) -> int:
        """An integer for libraries that take a seed, drawn from ``generator``."""
        return drawn_seed(self.generator)


def _own(images: ImageSet | None) -> ImageSet | None:
    """The same pixels, which cannot be changed, with labels that nobody else reads."""
    return None if images is None else images.labelled(images.labels.clone())
