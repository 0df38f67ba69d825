"""Small backdoored networks that defenses are checked on, with all that a defender has of them."""

from __future__ import annotations

import copy
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from attacks import Attack
from bench.harness.checks.common import CLASSES, DATASET, FEW, MODEL, SHAPES, Shape, made_up
from bench.victims.poison import planned, stamped
from defenses import DefenderView
from fixtures import datasets, models
from fixtures.images import ImageSet
from fixtures.recipes import Recipe
from fixtures.seeding import drawn_seed
from fixtures.training import fit

SMALL = Recipe(min_steps=200)
"""How the victim on digits is trained, and what a defense trains anew by."""

OTHERS = tuple(zip(SHAPES, (CLASSES[1], CLASSES[1], CLASSES[0]), strict=True))
"""Shapes and numbers of classes beside those of digits: a defense may take seconds on each."""

FOR_TRAINING = 600
"""Digits that the first victim is trained on."""

SCREENED = 48
"""Inputs, at most, that detectors of triggered ones are given."""


class Square(Attack):
    """A trigger for the small victims; checks name no plugin."""

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        stamped[..., -4:, -4:] = 1.0
        return stamped


@dataclass(frozen=True, eq=False)
class SmallVictim:
    """A backdoored network, its training set as received, the defender's images, and test images.

    ``where``: what messages add to a plugin's name.
    """

    net: nn.Module
    suspect: ImageSet
    clean: ImageSet
    inputs: ImageSet
    num_classes: int
    recipe: Recipe
    where: str

    def view(self, sees: Set[str], order: Tensor | None = None) -> DefenderView:
        """What who sees those parts has of it; ``order`` int64 [N] is of its suspects."""
        generator = torch.Generator().manual_seed(1)
        suspect = self.suspect if order is None else self.suspect.take(order)

        def fresh() -> nn.Module:
            seed = drawn_seed(generator)
            return models.build_for(MODEL, self.suspect.shape, self.num_classes, seed=seed)

        return DefenderView(
            model=copy.deepcopy(self.net) if "model" in sees else None,
            clean=self.clean if "clean" in sees else None,
            suspect=suspect if "suspect" in sees else None,
            shape=self.suspect.shape,
            num_classes=self.num_classes,
            device=torch.device("cpu"),
            generator=generator,
            fresh=fresh,
            recipe=self.recipe,
        )


@lru_cache(maxsize=1)
def on_digits() -> SmallVictim:
    """Real images in grey, ten classes: trained well enough to behave like a victim."""
    data = datasets.load(DATASET)
    few = data.train.take(torch.arange(FOR_TRAINING))
    inputs = data.test.take(torch.arange(SCREENED))
    return _made(few, data.clean, inputs, len(data.classes), SMALL, "")


@lru_cache(maxsize=len(OTHERS))
def on_made_up(shape: Shape, num_classes: int) -> SmallVictim:
    """Made-up images, trained for a few steps: what runs on it runs on such images."""
    sample = made_up(shape, num_classes)
    own = torch.arange(len(sample.train)) < 2 * num_classes  # two of each class, three are left
    clean, train = sample.train.take(own), sample.train.take(~own)
    inputs = sample.test.take(torch.arange(min(SCREENED, len(sample.test))))
    return _made(train, clean, inputs, num_classes, FEW, sample.where)


def small_victims() -> list[SmallVictim]:
    """On digits; on made-up images in grey and colour, of three sizes, of few and many classes."""
    return [on_digits(), *(on_made_up(*one) for one in OTHERS)]


def _made(
    train: ImageSet,
    clean: ImageSet,
    inputs: ImageSet,
    num_classes: int,
    recipe: Recipe,
    where: str,
) -> SmallVictim:
    attack = Square(target=0, poison_rate=0.04, shape=train.shape, num_classes=num_classes)
    plan = planned("the small victim", attack, train, seed=0)
    suspect = stamped("the small victim", attack, train, plan, seed=0).onto(train).flattened()
    net = models.build_for(MODEL, train.shape, num_classes)
    fit(net, suspect, recipe, generator=torch.Generator().manual_seed(0))
    return SmallVictim(net, suspect, clean, inputs, num_classes, recipe, where)
