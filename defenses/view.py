"""What a defender has, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fixtures.anatomy import Anatomy, Place, anatomy
from fixtures.images import ImageSet
from fixtures.recipes import Recipe
from fixtures.seeding import drawn_seed, seeded
from fixtures.training import BatchHook, Loss, Penalty, activations, fit

PARTS = ("model", "clean", "suspect")
"""What a defense may name in ``sees``; ``"pretrained"`` beside them says that it brings weights
from outside."""


LABEL_BYTES = 128 << 20
"""Of activations of one label that are held at a time; of more a share is held, evenly spread.
What a detector makes of them, in float64 and squared, stays under 1 GiB."""

ACTIVATIONS_AT_A_TIME = 1000

LEAST = 16
"""Images of a step where a tenth of the clean images is fewer than this."""

Points = NDArray[np.float32]

NONE: Points = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Label:
    """One label's activations. ``members`` bool [N]: which suspect samples carry ``label``.

    ``points`` [n, D]: theirs, of all or of as many as fill `LABEL_BYTES`; ``known`` [m, D]: those
    of the clean images.
    """

    label: int
    members: NDArray[np.bool_]
    points: Points
    known: Points
    _all: Callable[[], Iterator[Points]]

    def scored(self, score: Callable[[Points], NDArray[Any]]) -> NDArray[Any]:
        """What ``score``, [n, D] -> [n], says of every member, in order."""
        if len(self.points) == self.members.sum():
            return score(self.points)
        return np.concatenate([score(some) for some in self._all()])


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

    def train(
        self, data: ImageSet, *, loss: Loss | None = None, lr_scale: float = 1.0, **changes: Any
    ) -> nn.Module:
        """A fresh network of the victim's architecture, trained by the victim's own recipe.

        ``loss``: of each sample, (logits [B, K], labels [B], positions in ``data`` [B]) -> [B],
        where it is not cross-entropy. ``lr_scale``: the peak learning rate, in the recipe's.
        ``changes``: fields of the `Recipe` that differ. Raises ValueError where the architecture is
        not known, TrainingError where the loss is no number.
        """
        if self.fresh is None:
            raise ValueError("the network's architecture is not known: none can be trained anew")
        net, seed = self.fresh(), self.seed()
        recipe = self._recipe(lr_scale, changes)
        # Two draws, whatever the data: what one training sees does not move the next one.
        with seeded(seed):
            fit(net, data, recipe, generator=torch.Generator().manual_seed(seed), loss=loss)
        return net

    def fine_tune(
        self,
        net: nn.Module,
        *,
        lr_scale: float = 1.0,
        on_batch: BatchHook | None = None,
        penalty: Penalty | None = None,
        **changes: Any,
    ) -> None:
        """Go on training ``net``, in place, on the clean images, by the victim's own recipe.

        ``lr_scale``: the peak learning rate, in the recipe's. ``on_batch``, ``penalty``: as
        `fixtures.training.fit` takes them. ``changes``: fields of the `Recipe` that differ. Raises
        TrainingError where the loss is no number.
        """
        fit(
            net,
            self.clean,
            self._recipe(lr_scale, changes),
            generator=self.generator,
            on_batch=on_batch,
            penalty=penalty,
        )

    def _recipe(self, lr_scale: float, changes: dict[str, Any]) -> Recipe:
        peak = lr_scale * self.recipe.peak_lr
        return dataclasses.replace(self.recipe, **{"peak_lr": peak, **changes})

    def anatomy(self, net: nn.Module | None = None) -> Anatomy:
        """The parts of ``net``, else of ``model``, by one forward pass of two grey images."""
        grey = torch.full((2, *self.shape), 0.5, device=self.device)
        return anatomy(self.model if net is None else net, grey)

    def held_out(self, share: float) -> tuple[ImageSet, ImageSet]:
        """The clean images in two at random: ``share`` of them to validate on, and the rest."""
        order = torch.randperm(len(self.clean), generator=self.generator)
        kept = round(share * len(self.clean))
        return self.clean.take(order[:kept]), self.clean.take(order[kept:])

    def by_label(self) -> Iterator[Label]:
        """Features of the suspect and the clean images, one label after another.

        No more than one label's are held at a time. Without clean images none are known. Raises
        LookupError for a network that has no features.
        """
        found = self.anatomy()
        if found.features is None:
            raise LookupError(found.lacks["features"])
        of = partial(features, self.model, found.features)
        one = of(self.suspect.take(torch.arange(1))).nbytes
        for label in range(self.num_classes):
            members = self.suspect.labels == label
            images = self.suspect.take(members)
            points = of(images.take(held(len(images), one)))
            known = NONE
            if "clean" in self.sees:
                known = of(self.clean.take(self.clean.labels == label))
            yield Label(label, members.numpy(), points, known, partial(parts, of, images))

    def seed(self) -> int:
        """An integer for libraries that take a seed, drawn from ``generator``."""
        return drawn_seed(self.generator)


def _own(images: ImageSet | None) -> ImageSet | None:
    """The same pixels, which cannot be changed, with labels that nobody else reads."""
    return None if images is None else images.labelled(images.labels.clone())


def features(net: nn.Module, place: Place, images: ImageSet) -> Points:
    """What enters the classifier: float32 [N, D]."""
    if not len(images):
        return NONE
    return activations(net, images, place.name, place.side).numpy()


def held(count: int, size: int) -> Tensor:
    """Positions of so many images whose activations, of ``size`` bytes each, are held: int64."""
    most = max(1, LABEL_BYTES // size)
    return torch.arange(0, count, max(1, -(-count // most)))


def parts(of: Callable[[ImageSet], Points], images: ImageSet) -> Iterator[Points]:
    """Features of all images, some at a time."""
    for index in torch.arange(len(images)).split(ACTIVATIONS_AT_A_TIME):
        yield of(images.take(index))


def images_a_step(given: int, most: int) -> int:
    """How many clean images a step takes, of the number given, so that two steps differ.

    No more than a tenth of them, or `LEAST` where that is fewer.
    """
    return min(given, most, max(LEAST, given // 10))


def passes(images: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of one batch after another, in a new order each pass, without what is left over."""
    while True:
        order = torch.randperm(images, generator=generator)
        yield from order[: images - images % batch].split(batch)
