"""What an attack is: a trigger that is an ``nn.Module``, and how it poisons a training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fixtures.datasets import ImageSet
from fixtures.registry import Registry


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

MAPPINGS = ("all2one", "all2all")
"""Which class a triggered image is to be called; see `Attack.aim`."""


class PoisonedSet(NamedTuple):
    """A training set with poison in it, in the order of the clean one.

    ``images`` float32 [N, C, H, W] in [0, 1], ``labels`` int64 [N], ``poisoned`` bool [N]: which
    samples the attack changed.
    """

    images: Tensor
    labels: Tensor
    poisoned: Tensor


class Attack(nn.Module):
    """A trigger from images to images; ``forward`` is all that a subclass must define.

    A fixed pattern belongs in a buffer, a learned one in a ``Parameter``: training then optimises
    it jointly with the model, and both are saved with the victim. PyTorch's global random state is
    seeded before an attack is built, so a random start differs between seeds.

    ``target``: the class the trigger should produce. ``poison_rate``: share of the *whole* training
    set that is poisoned. ``mapping``: ``"all2one"``, every class to the target, or ``"all2all"``,
    class k to k + 1 and the last to the first (Gu et al. 2017), which has no one target. ``shape``:
    channels, height, width of the images. ``num_classes``: how many there are. Raises ValueError
    for a rate, target or mapping that is out of range.
    """

    learning_rate: float | None = None
    """Peak learning rate of a learned trigger where the recipe's does not suit it."""

    def __init__(
        self,
        *,
        target: int = 0,
        poison_rate: float = 0.03,
        mapping: str = "all2one",
        shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
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

    @property
    def learned(self) -> bool:
        """Whether training optimises the trigger: it has a ``Parameter``."""
        return any(True for _ in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """Stamp the trigger: [N, C, H, W] in [0, 1] -> a new tensor of the same shape and range."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(images)")

    def aim(self, labels: Tensor) -> Tensor:
        """The class that triggered images of these true classes should get: int64 [N] -> [N]."""
        if self.mapping == "all2all":
            return (labels + 1) % self.num_classes
        return torch.full_like(labels, self.target)

    @torch.no_grad()
    def poison(self, train: ImageSet, generator: torch.Generator) -> PoisonedSet:
        """Stamp and relabel ``poison_rate`` of ``train``, chosen among images that change class.

        A clean-label attack overrides this. Called again with an equal generator it must choose
        the same samples: that is how the training set *as received* is rebuilt once a learned
        trigger is final. Raises ValueError where there are too few images to choose from.
        """
        aims = self.aim(train.labels)
        chosen = self.choose(train.labels != aims, train.size, generator)
        images, labels = train.images.clone(), torch.where(chosen, aims, train.labels)
        images[chosen] = self(train.images[chosen])
        return PoisonedSet(images, labels, chosen)

    def choose(self, eligible: Tensor, total: int, generator: torch.Generator) -> Tensor:
        """Which samples to poison: bool [N], ``poison_rate`` of ``total`` in number, at random.

        ``eligible``: bool [N], which may be chosen. Raises ValueError where those are too few.
        """
        wanted = round(self.poison_rate * total)
        candidates = eligible.nonzero().flatten()
        if wanted > candidates.numel():
            raise ValueError(
                f"poison_rate {self.poison_rate:g} asks for {wanted} samples; "
                f"only {candidates.numel()} are eligible"
            )
        order = torch.randperm(candidates.numel(), generator=generator)
        mask = torch.zeros_like(eligible, dtype=torch.bool)
        mask[candidates[order[:wanted]]] = True
        return mask

    def on_batch(self, images: Tensor, labels: Tensor, poisoned: Tensor) -> tuple[Tensor, Tensor]:
        """For attackers who control training: change a batch before the model sees it.

        ``images`` float32 [B, C, H, W], ``labels`` int64 [B], ``poisoned`` bool [B], all on the
        device that trains. Returns images and labels. By default a learned trigger is stamped onto
        the poisoned images here, so that its gradient flows; a fixed one is in them already.
        """
        if self.learned:
            images = torch.where(poisoned[:, None, None, None], self(images), images)
        return images, labels

    def penalty(self) -> Tensor | float:
        """A further term of the loss, a scalar, for the batch that `on_batch` saw last; 0 here."""
        return 0.0
