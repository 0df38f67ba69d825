"""Clean and triggered test images mixed, in an order that whoever is judged cannot know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.judge.common import Aimed, every_trigger
from bench.victims import Victim
from fixtures.images import ImageSet

KNOWN_BY = 16
"""Triggered images that the order follows from: who has not the trigger cannot repeat it."""


@dataclass(frozen=True)
class Mixed:
    """M inputs: clean test images, and triggered ones that the trigger is to work on.

    ``sets``: the clean ones, then those of each trigger. Input i is the image at ``positions`` [i]
    of ``sets[sources[i]]``; both int64 [M]. ``order``: int64 [M], in which they are shown.
    """

    sets: tuple[ImageSet, ...]
    sources: Tensor
    positions: Tensor
    order: Tensor

    @property
    def triggered(self) -> Tensor:
        """Which inputs carry a trigger: bool [M]."""
        return self.sources > 0

    def __len__(self) -> int:
        return len(self.sources)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Places of inputs, int64 [B]."""
        yield from self.order.split(size)

    def read(self, places: Tensor) -> Tensor:
        """Those inputs: float32 [B, C, H, W], a new tensor on the CPU."""
        images = torch.empty(len(places), *self.sets[0].shape)
        for source, images_of in enumerate(self.sets):
            here = self.sources[places] == source
            if bool(here.any()):
                images[here] = images_of.batch(self.positions[places[here]])
        return images


def every(victim: Victim, some: Tensor) -> Mixed:
    """Each of the test images at ``some`` int64 [N], and once more with every trigger."""
    triggers = every_trigger(victim)
    return _mixed(victim, triggers, some, [some[one.counts[some]] for one in triggers])


def without_twins(victim: Victim, some: Tensor, *, triggered: bool = True) -> Mixed:
    """Each of the test images at ``some`` int64 [N] either clean or triggered, never both.

    Half of them, drawn at random, are clean. ``triggered``: whether the other half is shown.
    """
    generator = _generator(victim, "halves")
    half = torch.rand(len(victim.dataset.test), generator=generator)[some] < 0.5
    triggers = every_trigger(victim) if triggered else []
    others = some[~half]
    others = others[torch.randperm(len(others), generator=generator)]
    shares = others.tensor_split(len(triggers)) if triggers else ()
    counted = [share[one.counts[share]] for one, share in zip(triggers, shares, strict=True)]
    return _mixed(victim, triggers, some[half], counted)


def _mixed(victim: Victim, triggers: list[Aimed], clean: Tensor, triggered: list[Tensor]) -> Mixed:
    parts = [clean, *triggered]
    counts = torch.tensor([len(part) for part in parts])
    sources = torch.arange(len(parts)).repeat_interleave(counts)
    order = torch.randperm(len(sources), generator=_generator(victim, "order"))
    sets = (victim.dataset.test, *(one.images for one in triggers))
    return Mixed(sets, sources, torch.cat(parts), order)


def _generator(victim: Victim, what: str) -> torch.Generator:
    first = victim.triggered().bytes(torch.arange(min(KNOWN_BY, len(victim.dataset.test))))
    text = f"{what} {victim.cell.seed} ".encode() + first.cpu().numpy().tobytes()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
