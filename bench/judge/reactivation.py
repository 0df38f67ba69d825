"""Re-activation: whether a repaired network's backdoor is gone, or asleep.

After Zhu et al. 2024, arXiv:2405.16134: the attacker may adjust all triggered images by one common
change, found by gradient on the repaired network. Any network can be moved a little by such a
change, so what the same search reaches on a clean one is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks import CLEAN
from bench.judge import formulas
from bench.judge.changed import classes_of_changed
from bench.judge.common import aimed
from bench.runtime.contracts import stamp
from bench.victims import Victim
from bench.victims.poison import changed, device_of
from fixtures.images import ImageSet
from fixtures.seeding import seeded

BOUND = 8 / 255
"""The largest change of a pixel."""

STEPS = 100
STEP = 1 / 255
"""Of each pixel, along the sign of the gradient. On digits and MNIST half and twice of it, and
batches of 32 and 128, came to the same."""

BATCH = 64
IMAGES = 500
"""Training images, of each trigger, that the change is sought on."""


def reactivation(net: nn.Module, victim: Victim, clean_victim: Victim, seed: int) -> float | None:
    """ASR of adjusted triggered test images, less what the same search reaches on a clean model.

    Between -1 and 1, over all triggers; each has a change of its own. It is not cut off at 0: of
    repairs that leave nothing the mean over seeds is then 0, not half the scatter. ``seed``: what
    training images are drawn by. None where no gradient flows through ``net``, which is left as
    it was.
    """
    reached = adjusted_asr(net, victim, seed)
    without = _on_clean_model(victim, clean_victim, seed)
    return None if reached is None or without is None else reached - without


@lru_cache(maxsize=1)
def _on_clean_model(victim: Victim, clean_victim: Victim, seed: int) -> float | None:
    """One victim's repairs follow one another, and are held against the same figure."""
    return adjusted_asr(clean_victim.model, victim, seed)


def adjusted_asr(net: nn.Module, victim: Victim, seed: int) -> float | None:
    """ASR after each trigger's images were adjusted to the network; None: no gradient flows."""
    hits = []
    for which in range(victim.attack.triggers):
        images, aims = sought_on(victim, which, seed)
        delta = common_change(net, images, aims, seed)
        if delta is None:
            return None
        hits.append(_hits(net, victim, which, delta))
    return formulas.share(torch.cat(hits))


def _hits(net: nn.Module, victim: Victim, which: int, delta: Tensor) -> Tensor:
    """Which of the test images that ASR is measured on become what is aimed at: bool [n]."""
    one = aimed(victim, which)
    triggered, aims = one.images.take(one.counts), one.aims[one.counts]

    def adjust(_images: Tensor, index: Tensor) -> Tensor:
        return (triggered.batch(index) + delta).clamp(0, 1)

    # Encoded like the files of the untouched images, which triggered ones no longer name.
    return classes_of_changed(net, victim.dataset.test.take(one.counts), adjust) == aims


def sought_on(victim: Victim, which: int, seed: int) -> tuple[ImageSet, Tensor]:
    """Unpoisoned training images with one trigger as they are handed over, and its aims int64 [N].

    Of classes that the trigger applies to, at most `IMAGES`.
    """
    train, attack = victim.dataset.train, victim.attack
    aims = attack.aim(train.labels, which)
    applies = attack.applies(train.labels, which) & (victim.roles == CLEAN)
    places = formulas.counted(train.labels, aims, applies).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    places = places[torch.randperm(len(places), generator=generator)[:IMAGES]]
    plugin, device = f"attack {victim.cell.attack!r}", device_of(attack)

    def change(images: Tensor, _index: Tensor) -> Tensor:
        return stamp(plugin, attack, images.to(device), which)

    return changed(train.take(places), change), aims[places]


def common_change(net: nn.Module, images: ImageSet, aims: Tensor, seed: int) -> Tensor | None:
    """What, added to all images, makes the network call most of them as aimed: float [C, H, W].

    ``aims``: int64 [N]. No pixel of it exceeds `BOUND`; images that it drives out of [0, 1] are
    clamped, and the gradient passes there as elsewhere, so that no pixel is stuck. In float32, in
    evaluation mode; the network is left as it was. None where no step had a gradient.
    """
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    delta = torch.zeros(images.shape, device=device)
    moved = False
    with _as_it_was(net), seeded(seed), torch.autocast(device.type, enabled=False):
        for _ in range(STEPS):
            index = torch.randint(len(images), (BATCH,), generator=generator)
            batch = (images.batch(index, device) + delta).clamp(0, 1)
            gradient = _gradient(net, batch, aims[index].to(device))
            moved = moved or bool(gradient.any())
            delta = (delta - STEP * gradient.sign()).clamp(-BOUND, BOUND)
    return delta.cpu() if moved else None


def _gradient(net: nn.Module, images: Tensor, aims: Tensor) -> Tensor:
    """Of the mean cross-entropy, by what is added to all images: [C, H, W]; 0 where none flows."""
    with torch.enable_grad():
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        logits = net(images).float()
        if not logits.requires_grad:
            return torch.zeros_like(images[0])
        (found,) = torch.autograd.grad(cross_entropy(logits, aims), images, allow_unused=True)
    return torch.zeros_like(images[0]) if found is None else found.sum(0).nan_to_num()


@contextmanager
def _as_it_was(net: nn.Module) -> Iterator[None]:
    """Inside in evaluation mode; afterwards each module in the mode that it had."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
