"""The way to a backdoor's target is short: find the smallest patch that leads to each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defenses.base import DefenderView, ModelDetector, ModelVerdict, Repair, defense
from fixtures.augment import random_shifts
from fixtures.training import Recipe, autocast, fit, predict

SOURCE = "Wang et al. 2019, doi:10.1109/SP.2019.00031"


@dataclass(frozen=True)
class Search:
    """How triggers are recovered. ``batch``: clean images a step, each stamped for every class.

    While ``success`` of the images of other classes that were stamped in the last ``window`` steps
    were flipped, the price of a mask's size rises by ``factor``, and the mask may be kept. A kept
    mask that flips fewer than ``least`` of all clean images of other classes counts as none.
    """

    steps: int = 400
    batch: int = 32
    lr: float = 0.1
    price: float = 1e-3
    factor: float = 1.5
    window: int = 10
    success: float = 0.99
    least: float = 0.95


@dataclass(frozen=True)
class Triggers:
    """``masks`` [K, 1, H, W], zero where none was found, ``patterns`` [K, C, H, W] in [0, 1].

    ``flips`` [K]: the share of clean images of other classes that each sends to its class.
    """

    masks: Tensor
    patterns: Tensor
    flips: Tensor

    @property
    def norms(self) -> Tensor:
        """L1 norm of each mask; a class without any counts as the whole image: [K]."""
        flat = self.masks.flatten(1)
        return torch.where(flat.any(1), flat.sum(1), float(flat.shape[1]))

    def stamp(self, images: Tensor, which: Tensor) -> Tensor:
        """Images [N, C, H, W] with trigger ``which`` [N] on each."""
        return torch.lerp(images, self.patterns[which], self.masks[which])


@defense("neural_cleanse", source=SOURCE)
class NeuralCleanse(ModelDetector):
    """Recover the smallest trigger towards every class; one far smaller is a backdoor.

    Question: is there a class that a small patch reaches from everywhere? Mask and pattern of all
    classes are optimised together, in one batched forward pass: cross-entropy towards the class
    plus a price on the mask's L1 norm, which rises while the mask flips at least 99 % of the images
    of other classes and falls while it does not. A class's mask is the smallest at such a moment.
    The anomaly index of a class is how far its norm lies below the median of all classes, in units
    of 1.4826 times the median absolute deviation; above ``threshold``, 2 in the paper, a class is
    accused.

    Two traps of public code are avoided: the price starts above zero, and a mask that does not flip
    the model is never the best one. A class without any such mask counts as the whole image, and
    where half of the classes have none, nobody is accused.

    Deviates from the paper: 400 Adam steps for all classes at once, judged every ten steps on the
    images of those, not passes over the whole set. Assumes one target that a small, fixed patch
    reaches. Costs about as much as training the victim. Fails for triggers that no small patch can
    stand for (blurs, warps, waves), which leave the target's norm near the others', for all-to-all,
    where no class stands out, and where half of the classes are targets.
    """

    def __init__(self, threshold: float = 2.0, **search: Any) -> None:
        self.threshold = threshold
        self.search = Search(**search)

    def inspect(self, view: DefenderView) -> ModelVerdict:
        found = recover(view, self.search)
        anomaly = anomaly_index(found)
        suspects = accused(anomaly, self.threshold)
        self.report |= {"norms": found.norms.tolist(), "flips": found.flips.tolist()}
        return ModelVerdict(anomaly, bool(suspects), suspects, found.masks, found.patterns)


@defense("neural_cleanse_unlearning", source=SOURCE)
class NeuralCleanseUnlearning(Repair):
    """Fine-tune with the triggers that Neural Cleanse recovers, under the right labels.

    Question: if the recovered trigger is the backdoor, can the model be taught to ignore it? A
    fifth of each batch of clean images (``share``) is stamped with the trigger of an accused class
    and keeps its label, as in the paper. A model that Neural Cleanse calls clean is returned as it
    came.

    Deviates from the paper: ``epochs`` over the small clean split with one-cycle learning rate and
    random shifts of up to ``shift`` pixels, not one epoch over a tenth of the training set. Assumes
    what Neural Cleanse assumes, and costs a small training run more. Fails where the detection
    does, and where the recovered trigger is another short cut than the attacker's.
    """

    def __init__(
        self,
        threshold: float = 2.0,
        share: float = 0.2,
        epochs: int = 10,
        min_steps: int = 200,
        peak_lr: float = 4e-3,
        shift: int = 2,
        **search: Any,
    ) -> None:
        self.threshold = threshold
        self.share = share
        self.recipe = Recipe(epochs=epochs, min_steps=min_steps, peak_lr=peak_lr)
        self.shift = shift
        self.search = Search(**search)

    def repair(self, view: DefenderView) -> nn.Module:
        found = recover(view, self.search)
        suspects = accused(anomaly_index(found), self.threshold)
        self.report["suspects"] = list(suspects)
        if not suspects:
            return view.model
        device = next(view.model.parameters()).device
        triggers = Triggers(found.masks.to(device), found.patterns.to(device), found.flips)
        moved = random_shifts(self.shift, view.generator)

        def on_batch(images: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            images, labels = moved(images, labels, index)
            draws = torch.rand(len(images), generator=view.generator)
            chosen = (draws < self.share).nonzero().flatten().to(device)
            which = torch.randint(len(suspects), (len(chosen),), generator=view.generator)
            images[chosen] = triggers.stamp(
                images[chosen], torch.tensor(suspects)[which].to(device)
            )
            return images, labels

        fit(view.model, view.clean, self.recipe, generator=view.generator, on_batch=on_batch)
        return view.model


def recover(view: DefenderView, search: Search) -> Triggers:
    """The smallest trigger found towards each class, from clean images and the model alone."""
    net = view.model.eval()
    device = next(net.parameters()).device
    classes, (channels, height, width) = view.num_classes, view.clean.images.shape[1:]
    images, labels = view.clean.images.to(device), view.clean.labels.to(device)

    def start(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=view.generator).to(device)
        return drawn.requires_grad_(True)

    mask, pattern = start(classes, 1, height, width), start(classes, channels, height, width)
    optimizer = torch.optim.Adam([mask, pattern], lr=search.lr, betas=(0.5, 0.9))
    targets = torch.arange(classes, device=device)
    price = torch.full((classes,), search.price, device=device)
    flipped, stamped_others = (torch.zeros(classes, device=device) for _ in range(2))
    best_norm = torch.full((classes,), torch.inf, device=device)
    best_mask, best_pattern = torch.zeros_like(mask), pattern.detach().sigmoid()
    for step in range(1, search.steps + 1):
        index = torch.randint(len(images), (search.batch,), generator=view.generator).to(device)
        m, p = mask.sigmoid(), pattern.sigmoid()
        stamped = torch.lerp(images[index][None], p[:, None], m[:, None]).flatten(0, 1)
        with autocast(device):
            logits = net(stamped.contiguous(memory_format=torch.channels_last))
        wanted = targets.repeat_interleave(search.batch)
        loss = nn.functional.cross_entropy(logits.float(), wanted, reduction="sum") / search.batch
        loss = loss + (price * m.flatten(1).sum(1)).sum()
        mask.grad, pattern.grad = torch.autograd.grad(loss, [mask, pattern])
        others = labels[index][None] != targets[:, None]
        flipped += ((logits.argmax(1) == wanted).view(classes, -1) & others).sum(1)
        stamped_others += others.sum(1)
        if step % search.window == 0:  # judged on what was stamped, before the step moves it
            works = flipped >= search.success * stamped_others
            norm = m.detach().flatten(1).sum(1)
            smaller = works & (norm < best_norm)
            best_mask[smaller], best_pattern[smaller] = m.detach()[smaller], p.detach()[smaller]
            best_norm = torch.where(smaller, norm, best_norm)
            price = torch.where(works, price * search.factor, price / search.factor**1.5)
            flipped.zero_()
            stamped_others.zero_()
        optimizer.step()
    return _verified(view, best_mask.cpu(), best_pattern.cpu(), search.least)


def _verified(view: DefenderView, masks: Tensor, patterns: Tensor, least: float) -> Triggers:
    """Without the triggers that do not hold on all clean images of other classes."""
    flips = []
    for label in range(view.num_classes):
        others = view.clean.images[view.clean.labels != label]
        stamped = torch.lerp(others, patterns[label], masks[label])
        flips.append((predict(view.model, stamped).argmax(1) == label).float().mean())
    holds = torch.stack(flips) >= least
    return Triggers(masks * holds[:, None, None, None], patterns, torch.stack(flips))


def anomaly_index(found: Triggers) -> Tensor:
    """How far each norm lies below the median, in consistent median absolute deviations: [K].

    All zero where half of the classes have no mask: they leave nothing to compare with. A spread
    of less than a hundredth of the median is taken for that.
    """
    norms = found.norms.double()
    if 2 * int(found.masks.flatten(1).any(1).sum()) <= len(norms):
        return torch.zeros_like(norms)
    median = norms.quantile(0.5)
    spread = 1.4826 * (norms - median).abs().quantile(0.5)
    return (median - norms) / torch.maximum(spread, median / 100)


def accused(anomaly: Tensor, threshold: float) -> tuple[int, ...]:
    """The classes whose anomaly exceeds the threshold."""
    return tuple((anomaly > threshold).nonzero().flatten().tolist())
