"""What an attack is: a trigger that is an ``nn.Module``, and how it gets into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from attacks.access import Access
from fixtures.registry import Registry

CLEAN, POISON, COVER = 0, 1, 2
"""Roles of a training sample: as published; changed so that it teaches the backdoor; changed as
poison is but rightly labelled, so that the backdoor answers to less."""

CANVAS = 32
"""Side, in pixels, at which a pattern of the whole image is drawn; see `Attack.drawn`."""

MAPPINGS = ("all2one", "all2all")
"""Which class a triggered image is to be called; see `Attack.aim`."""


@dataclass(frozen=True)
class AttackInfo:
    """What an attack's author says of it; tables show level, needs and source.

    ``level``: the rung of stealth, 1 (plain to see) upwards; 0 is the clean model. ``needs``: the
    attacker's power, which is ``"data"`` (part of the training set), ``"training"`` (the loop) or
    ``"model"`` (the weights); the clean model alone needs ``""``. ``source``: the paper.
    ``family``: what such triggers are called, say ``"warp"``. ``made_against``, ``defeated_by``:
    names of the defenses that the paper sets out to evade, and that are published to stop it.
    Raises ValueError for a negative level and for power that does not go with it.
    """

    level: int
    needs: Literal["", "data", "training", "model"]
    source: str = ""
    family: str = ""
    made_against: tuple[str, ...] = ()
    defeated_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level is 0 or more, got {self.level}")
        if (self.needs == "") != (self.level == 0):
            raise ValueError(
                "needs is data, training or model, and empty for level 0 (the clean model) alone; "
                f"got {self.needs!r} with level {self.level}"
            )


ATTACKS: Registry[Attack, AttackInfo] = Registry(
    "attack", AttackInfo, group="triggerbench.attacks", package="attacks"
)

attack = ATTACKS.register
"""``@attack(name, level=..., needs=..., source=...)``: the fields of `AttackInfo`."""


class Plan(NamedTuple):
    """What becomes of the training set, in its order.

    ``roles``: int8 [N], each `CLEAN`, `POISON` or `COVER`. ``labels``: int64 [N], as the model is
    to learn them; only poison may carry another than its own.
    """

    roles: Tensor
    labels: Tensor


class Attack(nn.Module):
    """A trigger from images to images; ``forward`` is all that a subclass must define.

    A fixed pattern belongs in a buffer, a learned one in a ``Parameter``: training then optimises
    it jointly with the model, and both are saved with the victim. PyTorch's global random state is
    seeded before an attack is built, so that a random pattern differs between seeds.

    ``target``: the class the trigger should produce; by default another one for every seed.
    ``poison_rate``: share of the *whole* training set that is poisoned. ``mapping``: ``"all2one"``,
    every class to the target, or ``"all2all"``, class k to k + 1 and the last to the first (Gu et
    al. 2017), which has no one target. ``shape``: channels, height, width of the images.
    ``num_classes``: how many there are. Raises ValueError for a rate, target or mapping that is out
    of range.
    """

    backdoors: bool = True
    """Whether the model it makes counts as backdoored."""

    triggers: int = 1
    """How many it has. With more than one ``forward`` takes ``which`` of them, and ASR is measured
    of each."""

    covers: bool = False
    """Whether its covers carry something else than its trigger (a disturbed warp, the trigger of
    another image): the accuracy on test images that are stamped so is then measured. Covers that
    carry the trigger itself, on classes that it does not apply to, show in its leak."""

    learning_rate: float | None = None
    """Peak learning rate of a learned trigger where the recipe's does not suit it."""

    def __init__(
        self,
        *,
        target: int | None = None,
        poison_rate: float = 0.03,
        mapping: str = "all2one",
        shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        drawn = int(torch.randint(num_classes, ()))  # also where it is not used: what follows
        target = drawn if target is None else target  # in the random state stays the same
        if not 0.0 <= poison_rate <= 1.0:
            raise ValueError(f"poison_rate is a share between 0 and 1, got {poison_rate}")
        if not 0 <= target < num_classes:
            raise ValueError(f"target is a class from 0 to {num_classes - 1}, got {target}")
        if mapping not in MAPPINGS:
            raise ValueError(f"mapping is one of {', '.join(MAPPINGS)}, got {mapping!r}")
        self.target = target
        self.poison_rate = poison_rate
        self.mapping = mapping
        self.shape = shape
        self.num_classes = num_classes

    def pixels(self, share: float, least: int = 1) -> int:
        """A share of the images' shorter side, in whole pixels, ``least`` of them or more.

        Raises ValueError unless it is a share between 0 and 1.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a size is a share of the side between 0 and 1, got {share}")
        return max(least, round(share * min(self.shape[1:])))

    def drawn(self, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """A pattern of the whole image, [C, H, W], by a function from its shape.

        Where the shorter side exceeds `CANVAS` pixels it is drawn at that size and its pixels
        become blocks: networks that read large images see little of single pixels.
        """
        channels, *sides = self.shape
        scale = min(1.0, CANVAS / min(sides))
        small = draw((channels, *(round(scale * side) for side in sides)))
        return nn.functional.interpolate(small[None], size=sides)[0]

    def forward(self, images: Tensor) -> Tensor:
        """The trigger as it is used at test time.

        [N, C, H, W] in [0, 1] -> a new tensor of the same shape and range, each image by itself.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(images)")

    # Which classes it is about.

    def aim(self, labels: Tensor, which: int = 0) -> Tensor:  # noqa: ARG002 - one aim for all
        """The class that triggered images of these true classes should get: int64 [N] -> [N]."""
        if self.mapping == "all2all":
            return (labels + 1) % self.num_classes
        return torch.full_like(labels, self.target)

    def applies(self, labels: Tensor, which: int = 0) -> Tensor:
        """Which true classes the trigger is to work on: int64 [N] -> bool [N].

        By default all but those that have the wanted class already.
        """
        return labels != self.aim(labels, which)

    # Before training.

    def prepare(self, access: Access) -> None:
        """Learn what the trigger needs before anything is poisoned; by default nothing.

        What is learned is kept in buffers, which must exist, in their shape, from the beginning.
        """

    def choose(self, labels: Tensor, generator: torch.Generator) -> Plan:
        """Which samples of a training set with these labels, int64 [N], become what.

        By default ``poison_rate`` of the set, among those that the trigger applies to, under the
        label that is aimed at; several triggers take turns by position. Raises ValueError where
        there are too few to choose from.
        """
        eligible, aims = torch.zeros(len(labels), dtype=torch.bool), labels.clone()
        for which, places in self.turns(torch.arange(len(labels))):
            eligible[places] = self.applies(labels[places], which)
            aims[places] = self.aim(labels[places], which)
        chosen = self.draw(eligible, round(self.poison_rate * len(labels)), generator)
        roles = torch.zeros(len(labels), dtype=torch.int8)
        roles[chosen] = POISON
        return Plan(roles, torch.where(roles == POISON, aims, labels))

    def turns(self, index: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each trigger, and which of the samples at ``index`` int64 [B] it is for: int64 [b]."""
        for which in range(self.triggers):
            yield which, (index % self.triggers == which).nonzero().flatten()

    def draw(self, eligible: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
        """Positions of ``wanted`` of the samples that may be chosen, bool [N], at random: int64.

        Raises ValueError where those are too few.
        """
        candidates = eligible.nonzero().flatten()
        if wanted > len(candidates):
            raise ValueError(
                f"poison_rate {self.poison_rate:g} asks for {wanted} samples; "
                f"only {len(candidates)} are eligible"
            )
        return candidates[torch.randperm(len(candidates), generator=generator)[:wanted]]

    def stamp(
        self,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        index: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """What poison and covers carry in the training set; by default what `forward` stamps.

        ``images`` float32 [B, C, H, W], none of role `CLEAN`; ``labels`` int64 [B] of its plan;
        ``roles`` int8 [B]; ``index`` int64 [B], their positions in the training set.
        ``generator``: on the CPU. Also called with test images as covers, see `covers`.
        """
        if self.triggers == 1:
            stamped: Tensor = self(images)
            return stamped
        stamped = images.clone()
        for which, places in self.turns(index):
            stamped[places] = self(images[places], which)
        return stamped

    # While it trains: for attackers who control training.

    @property
    def learned(self) -> bool:
        """Whether training optimises the trigger: it has `trigger_parameters`."""
        return any(True for _ in self.trigger_parameters())

    @property
    def live(self) -> bool:
        """Whether its poison is made batch by batch: its trigger is learned, or it says how.

        Its images then arrive in `on_batch` as they were published, under the labels of its plan.
        The training set that a defender receives is made by one last such pass.
        """
        return self.learned or type(self).on_batch is not Attack.on_batch

    def trigger_parameters(self) -> Iterable[nn.Parameter]:
        """What is minimised jointly with the model; by default every parameter.

        Other modules of an attack have optimizers of their own.
        """
        return self.parameters()

    def on_batch(
        self,
        images: Tensor,
        labels: Tensor,
        roles: Tensor,
        index: Tensor,
        net: nn.Module,  # noqa: ARG002 - the default needs none
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change a batch, after its augmentation, before the model sees it.

        ``images`` float32 [B, C, H, W], ``labels`` int64 [B] and ``roles`` int8 [B] of its plan,
        ``index`` int64 [B], all on the device that trains. ``net``: the victim so far.
        ``generator``: on the CPU. Returns images, labels and roles, [B] again; images made up here
        count as poison or cover by the role that is returned for them. By default what is not
        clean is stamped, so that the gradient reaches a learned trigger.
        """
        changed = (roles != CLEAN).nonzero().flatten()
        if len(changed):
            x, y, role, at = (part[changed] for part in (images, labels, roles, index))
            images = images.index_copy(0, changed, self.stamp(x, y, role, at, generator))
        return images, labels, roles

    def penalty(
        self,
        net: nn.Module,  # noqa: ARG002
        images: Tensor,  # noqa: ARG002
        labels: Tensor,  # noqa: ARG002
        roles: Tensor,  # noqa: ARG002
        logits: Tensor,  # noqa: ARG002
    ) -> Tensor | float:
        """A further term of a batch's loss, a scalar; by default none.

        Called after the forward pass, with what `on_batch` returned: hooks on ``net`` have seen
        the activations of this batch.
        """
        return 0.0

    def on_epoch(self, epoch: int, epochs: int, net: nn.Module) -> None:
        """Called before each epoch, counted from 0: for attacks that go by stages."""

    def tamper(self, net: nn.Module, access: Access) -> nn.Module:  # noqa: ARG002
        """Change the trained network, or train another; by default the network as it is."""
        return net
