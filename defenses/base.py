"""What a defense sees, and the four kinds of defense."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fixtures.datasets import ImageSet
from fixtures.registry import Registry
from fixtures.training import Recipe, activations


@dataclass(frozen=True)
class DefenseInfo:
    """What a defense's author says of it; tables show the source.

    ``source``: the paper. ``family``: what such defenses are called, say ``"pruning"``.
    ``made_against``, ``defeated_by``: names of the attacks that the paper sets out to stop, and
    that are published to evade it.
    """

    source: str = ""
    family: str = ""
    made_against: tuple[str, ...] = ()
    defeated_by: tuple[str, ...] = ()


DEFENSES: Registry[Defense, DefenseInfo] = Registry(
    "defense", DefenseInfo, group="triggerbench.defenses", package="defenses"
)

defense = DEFENSES.register
"""``@defense(name, source=...)``: the fields of `DefenseInfo`."""


class Label(NamedTuple):
    """One label's activations. ``members`` bool [N]: which suspect samples carry ``label``;
    ``points`` [n, D]: their activations; ``known`` [m, D]: those of the clean split's samples."""

    label: int
    members: NDArray[np.bool_]
    points: NDArray[np.float32]
    known: NDArray[np.float32]


@dataclass(frozen=True)
class DefenderView:
    """All a defender has: no trigger, no target, no poison mask, no test set.

    ``model``: the victim's network, images [N, C, H, W] -> logits [N, K], on the device of the run;
    the defense's own copy. ``clean``: held out from training, disjoint from the test set.
    ``suspect``: the training set as received. Both are copies on the CPU. ``num_classes``: K.
    ``generator``: on the CPU, the only source of randomness a defense needs, so that the same cell
    gives the same figures. ``recipe``: how the victim was trained, for a defense that trains anew.
    """

    model: nn.Module
    clean: ImageSet
    suspect: ImageSet
    num_classes: int
    generator: torch.Generator
    recipe: Recipe = field(default_factory=Recipe)

    def held_out(self, share: float) -> tuple[ImageSet, ImageSet]:
        """The clean split in two at random: ``share`` of it to validate on, and the rest."""
        order = torch.randperm(self.clean.size, generator=self.generator)
        kept = round(share * self.clean.size)
        return self.clean.take(order[:kept]), self.clean.take(order[kept:])

    def by_label(self) -> Iterator[Label]:
        """Penultimate activations, one label after another.

        Raises LookupError for a network without a linear layer.
        """
        suspect = activations(self.model, self.suspect.images).numpy()
        clean = activations(self.model, self.clean.images).numpy()
        labels, clean_labels = self.suspect.labels.numpy(), self.clean.labels.numpy()
        for label in range(self.num_classes):
            members = labels == label
            yield Label(label, members, suspect[members], clean[clean_labels == label])

    def seed(self) -> int:
        """An integer for libraries that take a seed, drawn from ``generator``."""
        return int(torch.randint(2**31 - 1, (), generator=self.generator))


class SampleVerdict(NamedTuple):
    """One of each for every suspect sample, in order: ``scores`` float [N], higher is more
    suspicious; ``flags`` bool [N], whether it is taken for poison."""

    scores: Tensor
    flags: Tensor


class ModelVerdict(NamedTuple):
    """``anomaly`` float [K], of each class; ``backdoored``; ``suspects``: the accused targets.

    A detector that recovers triggers may return them, one for each class: ``masks`` float32
    [K, 1, H, W], zero for a class without any, and ``patterns`` float32 [K, C, H, W], both in
    [0, 1] on the CPU. The benchmark compares them with the true trigger.
    """

    anomaly: Tensor
    backdoored: bool
    suspects: tuple[int, ...]
    masks: Tensor | None = None
    patterns: Tensor | None = None


class Defense:
    """Base of the four kinds. Built anew for every cell; its arguments are its parameters."""

    uses: tuple[str, ...] = ()
    """Other defenses, by name, that this one runs: their code is then part of its identity."""

    def supports(self, view: DefenderView) -> str | None:  # noqa: ARG002 - by default all
        """Why this network or data set rules the defense out, in one clause; else None.

        Asked before the defense runs. With a reason the cell is "not applicable" rather than
        failed, and the tables show the reason. It must be certain from the view, without a
        measurement: look at the network's layers or at how much data there is, change nothing, and
        draw nothing from ``view.generator``.
        """
        return None

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the defense wants kept in the record's details, as plain JSON values."""
        return {}


def lacks(net: nn.Module, layer: type[nn.Module]) -> str | None:
    """For `Defense.supports`: that a network has no such layer, as a clause; None where it has."""
    if any(isinstance(module, layer) for module in net.modules()):
        return None
    return f"{type(net).__name__} has no {layer.__name__} layer"


class SampleDetector(Defense):
    """Which training samples are poisoned?"""

    def detect(self, view: DefenderView) -> SampleVerdict:
        """A score and a flag for every sample of ``view.suspect``, in its order."""
        raise NotImplementedError(f"{type(self).__name__} has no detect(view)")


class ModelDetector(Defense):
    """Is this model backdoored, and towards which class?"""

    def inspect(self, view: DefenderView) -> ModelVerdict:
        """An anomaly per class, a verdict, and the classes it accuses."""
        raise NotImplementedError(f"{type(self).__name__} has no inspect(view)")


class InputDetector(Defense):
    """Is this input triggered?"""

    threshold: float | None = None
    """Inputs with a score above it are refused. `screen` may set it, from the view alone; where it
    is None only the order of the scores is measured."""

    def screen(self, view: DefenderView, images: Tensor) -> Tensor:
        """A score for every image [N, C, H, W]: float [N], higher is more suspicious."""
        raise NotImplementedError(f"{type(self).__name__} has no screen(view, images)")


class Repair(Defense):
    """Give me a clean model."""

    trajectory_label = "step"
    """What ``trajectory`` counts, for the axis of its figure."""

    def repair(self, view: DefenderView) -> nn.Module:
        """A network with the same classes, images [N, C, H, W] -> logits [N, K].

        ``view.model`` may be changed and returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no repair(view)")

    def trajectory(self) -> Iterable[tuple[int, nn.Module]]:
        """The networks that `repair` went through, as (position, network); by default none.

        Called after `repair`. The benchmark measures each on test data, for a figure.
        """
        return ()
