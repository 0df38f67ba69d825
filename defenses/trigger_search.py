"""The smallest trigger towards each class of a network: the search that Neural Cleanse makes.

No plugin by itself: the defenses that accuse or repair by what it finds share it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from defenses.view import DefenderView, passes
from fixtures.training import autocast, numerics, predict

KEPT_BYTES = 64 << 20
"""Of the results of searches that are remembered; the oldest are forgotten first."""

STAMPED_PIXELS = 1 << 18
"""Of the stamped images of one forward pass: classes take turns where theirs are more. The memory
of a search is that of one such pass and its gradients, however many classes there are."""

PROBED = 64
"""Clean images whose logits tell one network from another."""


@dataclass(frozen=True)
class Search:
    """How triggers are recovered. ``steps``: at most, for each class.

    ``batch``: clean images a step at most, each stamped for every class; so few that ``window``
    steps are no more than a pass over them. While ``success`` of the images of other classes that
    were stamped in the last ``window`` steps were flipped, the price of a mask's size rises by
    ``factor``, and the mask may be kept. A class has converged once its price has risen and fallen
    and its smallest mask has not shrunk by ``gain`` of itself for ``patience`` windows, or for as
    many as it takes to see every clean image where that is more. A kept mask that flips fewer than
    ``least`` of all clean images of other classes counts as none. ``classes``: so many are
    searched, drawn at random; 0 for all.
    """

    steps: int = 400
    batch: int = 32
    lr: float = 0.1
    price: float = 1e-3
    factor: float = 1.5
    window: int = 10
    success: float = 0.99
    least: float = 0.95
    patience: int = 5
    gain: float = 0.01
    classes: int = 0

    def images(self, given: int) -> int:
        """Clean images a step, of the number given."""
        return max(1, min(self.batch, math.ceil(given / self.window)))

    def windows(self, given: int) -> int:
        """Windows without a gain that end the search for a class, of the number of images given."""
        return max(self.patience, math.ceil(given / (self.window * self.images(given))))


class Triggers(NamedTuple):
    """``masks`` [K, 1, H, W], zero where none was found, ``patterns`` [K, C, H, W] in [0, 1].

    ``flips`` [K]: the share of clean images of other classes that each sends to its class.
    ``steps`` int [K]: how many it took, 0 of a class that was not searched.
    """

    masks: Tensor
    patterns: Tensor
    flips: Tensor
    steps: Tensor

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self)

    @property
    def norms(self) -> Tensor:
        """L1 norm of each mask; a class without any counts as the whole image: [K]."""
        flat = self.masks.flatten(1)
        return torch.where(flat.any(1), flat.sum(1), float(flat.shape[1]))

    def stamp(self, images: Tensor, which: Tensor) -> Tensor:
        """Images [N, C, H, W] with trigger ``which`` [N] on each."""
        return torch.lerp(images, self.patterns[which], self.masks[which])


REMEMBERED: dict[bytes, tuple[Triggers, Tensor]] = {}
"""What `recover` found, and the generator's state thereafter, by `_digest`. Oldest first."""


def recover(view: DefenderView, search: Search) -> Triggers:
    """The smallest trigger found towards each class, from clean images and the model alone.

    A search is made once: `neural_cleanse` and `neural_cleanse_unlearning` ask the same of the same
    model. The result is remembered by the content of all that it depends on, and ``view.generator``
    is left as the search left it, so that what follows is the same to the last digit whether the
    search was made or remembered.
    """
    view.model.eval()
    asked = _digest(view, search)
    if asked in REMEMBERED:
        found, state = REMEMBERED[asked]
        view.generator.set_state(state)
    else:
        found = searched(view, search)
        REMEMBERED[asked] = found, view.generator.get_state()
        while (
            len(REMEMBERED) > 1 and sum(one.nbytes for one, _ in REMEMBERED.values()) > KEPT_BYTES
        ):
            del REMEMBERED[next(iter(REMEMBERED))]
    return Triggers(*(part.clone() for part in found))


def _digest(view: DefenderView, search: Search) -> bytes:
    """Of all that a search depends on: other weights, images, seeds or settings, another digest.

    The logits of some clean images stand for the network's code, which has no bytes of its own.
    """
    net, device = view.model, view.device
    settings = (search, view.num_classes, str(device), numerics(device), torch.get_num_threads())
    found = hashlib.blake2b(repr((type(net).__qualname__, settings)).encode())
    parts = {
        **dict(net.named_parameters()),
        **dict(net.named_buffers()),
        "clean images": view.clean.digests(),
        "clean labels": view.clean.labels,
        "generator": view.generator.get_state(),
        "logits": predict(net, view.clean.take(torch.arange(min(PROBED, len(view.clean))))),
    }
    for name, part in parts.items():
        found.update(repr((name, part.dtype, tuple(part.shape))).encode())
        flat = part.detach().cpu().contiguous().flatten()
        found.update(flat.view(torch.uint8).numpy().data)
    return found.digest()


def searched(view: DefenderView, search: Search) -> Triggers:
    """What `recover` returns, searched for whether or not that was done before."""
    net, device = view.model, view.device
    classes, (channels, height, width) = view.num_classes, view.shape
    clean = view.clean.resident(device)
    labels = clean.labels.to(device)

    def start(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=view.generator).to(device)
        return drawn.requires_grad_(True)

    mask, pattern = start(classes, 1, height, width), start(classes, channels, height, width)
    optimizer = torch.optim.Adam([mask, pattern], lr=search.lr, betas=(0.5, 0.9))
    price = torch.full((classes,), search.price, device=device)
    flipped, stamped_others, steps = (torch.zeros(classes, device=device) for _ in range(3))
    best_norm = torch.full((classes,), torch.inf, device=device)
    best_mask, best_pattern = torch.zeros_like(mask), pattern.detach().sigmoid()
    patience = search.windows(len(clean))
    convergence = Convergence(classes, patience, search.gain, device)
    left = torch.arange(classes)
    if search.classes:
        left = torch.randperm(classes, generator=view.generator)[: search.classes].sort().values
    left = left.to(device)
    batches = passes(len(clean), search.images(len(clean)), view.generator)
    for step, drawn in zip(range(1, search.steps + 1), batches, strict=False):
        index = drawn.to(device)
        images = clean.batch(drawn, device)
        optimizer.zero_grad()
        for some in left.split(max(1, STAMPED_PIXELS // (images.numel() // channels))):
            m, p = mask[some].sigmoid(), pattern[some].sigmoid()
            stamped = torch.lerp(images[None], p[:, None], m[:, None]).flatten(0, 1)
            with autocast(device):
                logits = net(stamped.contiguous(memory_format=torch.channels_last))
            wanted = some.repeat_interleave(len(index))
            loss = nn.functional.cross_entropy(logits.float(), wanted, reduction="sum") / len(index)
            loss = loss + (price[some] * m.flatten(1).sum(1)).sum()
            torch.autograd.backward(loss, inputs=[mask, pattern])
            others = labels[index][None] != some[:, None]
            flipped[some] += ((logits.argmax(1) == wanted).view(len(some), -1) & others).sum(1)
            stamped_others[some] += others.sum(1)
        steps[left] += 1
        if step % search.window == 0:  # by what was stamped, before the step changes it
            works = flipped >= search.success * stamped_others
            norm = torch.full_like(best_norm, torch.inf)
            norm[left] = mask.detach()[left].sigmoid().flatten(1).sum(1)
            smaller = works & (norm < best_norm)
            best_mask[smaller] = mask.detach()[smaller].sigmoid()
            best_pattern[smaller] = pattern.detach()[smaller].sigmoid()
            best_norm = torch.where(smaller, norm, best_norm)
            left = left[~convergence.reached(works, best_norm)[left]]
            if not len(left):
                break
            price = torch.where(works, price * search.factor, price / search.factor**1.5)
            flipped.zero_()
            stamped_others.zero_()
        optimizer.step()
    return _verified(view, best_mask.cpu(), best_pattern.cpu(), steps.long().cpu(), search.least)


class Convergence:
    """Which classes' masks have stopped to shrink, as in the early stopping of the paper's code."""

    def __init__(self, classes: int, patience: int, gain: float, device: torch.device) -> None:
        self.patience = patience
        self.gain = gain
        self._norm = torch.full((classes,), torch.inf, device=device)
        self._stale = torch.zeros(classes, device=device)
        self._rose, self._fell = torch.zeros(2, classes, dtype=torch.bool, device=device)

    def reached(self, works: Tensor, norm: Tensor) -> Tensor:
        """After another window, whether each class's price rose, then fell, and nothing is gained.

        ``works`` bool [K]: whether the masks flipped enough, so that the price rises. ``norm`` [K]:
        the smallest so far that did. Nothing is gained where it has shrunk by less than ``gain`` of
        itself in ``patience`` windows.
        """
        gained = norm < (1 - self.gain) * self._norm
        self._norm = torch.where(gained, norm, self._norm)
        self._stale = torch.where(gained, 0, self._stale + 1)
        self._fell |= self._rose & ~works
        self._rose |= works
        reached: Tensor = self._fell & (self._stale >= self.patience)
        return reached


def _verified(
    view: DefenderView, masks: Tensor, patterns: Tensor, steps: Tensor, least: float
) -> Triggers:
    """Without the triggers that do not hold on all clean images of other classes."""
    flips = torch.zeros(view.num_classes)
    for label in steps.nonzero().flatten().tolist():
        others = view.clean.take(view.clean.labels != label)
        for _, images in others.batches():
            stamped = torch.lerp(images, patterns[label], masks[label])
            flips[label] += (predict(view.model, stamped).argmax(1) == label).sum()
        flips[label] /= len(others)
    holds = flips >= least
    return Triggers(masks * holds[:, None, None, None], patterns, flips, steps)
