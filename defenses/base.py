"""The kinds of defense, and what each returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from defenses.view import DefenderView
from fixtures.registry import Registry


@dataclass(frozen=True)
class DefenseInfo:
    """What a defense's author says of it; tables show the source.

    ``source``: the paper. ``family``: what such defenses are called, say ``"pruning"``.
    ``made_against``, ``defeated_by``: names of the attacks that the paper sets out to stop, and
    that are published to evade it. ``null``: a null baseline, which does nothing clever, and which
    every claim of its kind must beat.
    """

    source: str = ""
    family: str = ""
    made_against: tuple[str, ...] = ()
    defeated_by: tuple[str, ...] = ()
    null: bool = False


DEFENSES: Registry[Defense, DefenseInfo] = Registry(
    "defense", DefenseInfo, group="triggerbench.defenses", package="defenses"
)

defense = DEFENSES.register
"""``@defense(name, source=...)``: the fields of `DefenseInfo`."""


class SampleVerdict(NamedTuple):
    """One of each for every suspect sample, in order: ``scores`` float [N], higher is more
    suspicious; ``flags`` bool [N], whether it is taken for poison."""

    scores: Tensor
    flags: Tensor


class ModelVerdict(NamedTuple):
    """``anomaly`` float [K], of each class; ``backdoored``; ``suspects``: the accused targets.

    ``score``: how suspicious the model is, comparable between models; by default the largest
    anomaly.

    A detector that recovers triggers may return them, one for each class: ``masks`` float32
    [K, 1, H, W], zero for a class without any, and ``patterns`` float32 [K, C, H, W], both in
    [0, 1] on the CPU. The benchmark compares them with the true trigger.
    """

    anomaly: Tensor
    backdoored: bool
    suspects: tuple[int, ...]
    masks: Tensor | None = None
    patterns: Tensor | None = None
    score: float | None = None


class Certificate(NamedTuple):
    """What a certified model says of some images, and what it proves.

    ``labels`` int64 [N]. ``radius`` int64 [N]: so many changes of the training set cannot change
    the label; -1 where the model abstains. ``unit``: what counts as one change: an insertion, a
    deletion, or a modification, which counts as one of each. ``alpha``: the share of certificates
    that may be wrong by chance; 0 where they follow with certainty.
    """

    labels: Tensor
    radius: Tensor
    unit: Literal["insertion or deletion", "modification"]
    alpha: float = 0.0


class Defense:
    """Base of the kinds. Built anew for every cell; its arguments are its parameters."""

    sees: ClassVar[Set[str]] = frozenset()
    """Which parts of the view it is given: ``"model"``, ``"clean"``, ``"suspect"``; the others are
    None. ``"pretrained"`` beside them: it brings weights from outside. Tables show it."""

    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({})
    """What ``python -m bench tune`` tries: at most two parameters, at most three values of each,
    their defaults among them."""

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


class SampleDetector(Defense):
    """Which training samples are poisoned?"""

    sees = frozenset({"model", "clean", "suspect"})

    def detect(self, view: DefenderView) -> SampleVerdict:
        """A score and a flag for every sample of ``view.suspect``, in its order."""
        raise NotImplementedError(f"{type(self).__name__} has no detect(view)")


class ModelDetector(Defense):
    """Is this model backdoored, and towards which class?"""

    sees = frozenset({"model", "clean"})

    def inspect(self, view: DefenderView) -> ModelVerdict:
        """An anomaly per class, a verdict, and the classes it accuses."""
        raise NotImplementedError(f"{type(self).__name__} has no inspect(view)")


class InputDetector(Defense):
    """Is this input triggered?"""

    sees = frozenset({"model", "clean"})

    threshold: float | None = None
    """Inputs with a score above it are refused. `calibrate` may set it, and it is taken down then:
    what becomes of it later counts for nothing. Where it is None only the order of the scores is
    measured."""

    aimed_fpr: float | None = None
    """The share of clean inputs that the threshold is to refuse, where it aims at one. Tables show
    the share that it does refuse beside it."""

    def calibrate(self, view: DefenderView) -> None:
        """Learn what is needed, before any input is seen, and keep it."""
        raise NotImplementedError(f"{type(self).__name__} has no calibrate(view)")

    def screen(self, images: Tensor) -> Tensor:
        """A score for every image of a batch, float32 [B, C, H, W] in [0, 1], on the CPU.

        float [B], higher is more suspicious. Batches are small, and mix clean and triggered images.
        The score of an image must not depend on what else is in its batch: random draws come from
        `fixtures.seeding.of_each`, one generator for each image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no screen(images)")


class Repair(Defense):
    """Give me a clean model."""

    sees = frozenset({"model", "clean"})

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


class Training(Defense):
    """Train me a clean model from data that I do not trust."""

    sees = frozenset({"clean", "suspect"})

    def train(self, view: DefenderView) -> nn.Module:
        """A network, images [N, C, H, W] -> logits [N, K], on ``view.device``.

        ``view.train`` and ``view.fresh`` make networks of the victim's architecture.
        """
        raise NotImplementedError(f"{type(self).__name__} has no train(view)")


class Certified(Training):
    """Train me a clean model, with a proof.

    The network that `train` returns has a method ``certify(images) -> Certificate``, which takes
    images float32 [N, C, H, W] on ``view.device``. What it certifies is what the network itself
    says: both are called alike, in evaluation mode, without gradients and under autocast.
    """
