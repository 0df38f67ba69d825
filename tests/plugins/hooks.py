"""Attacks of a few lines, one for each hook that a built-in attack has no use for.

``-p hooks`` registers them. All stamp white squares, one pixel of five of the side.
"""

from __future__ import annotations

import torch
from torch import nn

from attacks import COVER, POISON, Attack, Plan, attack
from defenses import SampleDetector, SampleVerdict, defense
from fixtures.images import to_bytes
from fixtures.training import activations, last


class Square(Attack):
    """A white square in the lower right corner."""

    triggers = 1

    def forward(self, images, which=0):
        stamped, side = images.clone(), self.pixels(0.2)
        columns = slice(-side, None) if which == 0 else slice(None, side)
        stamped[..., -side:, columns] = 1.0
        return stamped


@attack("by_source", level=2, needs="data", source="Tang et al. 2021, arXiv:1908.00686")
class BySource(Square):
    """Works on one class alone: images of others carry the square under their right label.

    ``poison_rate`` is a share of the source class, ``cover_rate`` of the others.
    """

    def __init__(self, cover_rate=0.3, *, poison_rate=0.5, **common):
        super().__init__(poison_rate=poison_rate, **common)
        self.cover_rate = cover_rate
        self.source = (self.target + 1) % self.num_classes

    def applies(self, labels, which=0):
        return labels == self.source

    def choose(self, labels, generator):
        roles = torch.zeros(len(labels), dtype=torch.int8)
        others = (labels != self.source) & (labels != self.target)
        for role, eligible, rate in (
            (POISON, self.applies(labels), self.poison_rate),
            (COVER, others, self.cover_rate),
        ):
            roles[self.draw(eligible, round(rate * int(eligible.sum())), generator)] = role
        return Plan(roles, torch.where(roles == POISON, self.aim(labels), labels))


@attack("two_squares", level=1, needs="data")
class TwoSquares(Square):
    """A square in each lower corner, each for a class of its own."""

    triggers = 2

    def aim(self, labels, which=0):
        return torch.full_like(labels, (self.target + which) % self.num_classes)


@attack("surrogate", level=3, needs="data")
class Surrogate(Attack):
    """Adds the signs that move a network of its own towards the target."""

    def __init__(self, amplitude=0.3, **common):
        super().__init__(**common)
        self.amplitude = amplitude
        self.register_buffer("pattern", torch.zeros(self.shape))

    def prepare(self, access):
        net = access.fresh()
        access.fit(net, access.train, epochs=2, min_steps=30)
        images = access.aux.images.to(access.device).requires_grad_()
        net(images)[:, self.target].sum().backward()
        self.pattern.copy_(self.amplitude * images.grad.mean(0).sign())

    def forward(self, images):
        return (images + self.pattern).clamp(0, 1)


@attack("discriminator", level=4, needs="training", source="Tan and Shokri 2020, arXiv:1905.13409")
class Discriminator(Square):
    """A critic learns to tell poison by its activations; the model learns to deceive it."""

    WIDTH = 16

    def __init__(self, strength=0.1, **common):
        super().__init__(**common)
        self.strength = strength
        self.critic = nn.Linear(self.WIDTH, 1)
        self.optimizer = torch.optim.SGD(self.critic.parameters(), lr=0.1)
        self.seen = []

    def trigger_parameters(self):
        return ()

    def on_epoch(self, epoch, epochs, net):
        if epoch == 0:
            last(net, nn.Linear).register_forward_pre_hook(
                lambda _module, inputs: self.seen.append(inputs[0].float())
            )

    def penalty(self, net, images, labels, roles, logits):
        seen = nn.functional.adaptive_avg_pool1d(self.seen.pop(), self.WIDTH)
        poison = (roles == POISON).float()
        self.optimizer.zero_grad()
        self.mistaken(seen.detach(), poison).backward()
        self.optimizer.step()
        return -self.strength * self.mistaken(seen, poison)

    def mistaken(self, seen, poison):
        found = self.critic(seen).flatten()
        return nn.functional.binary_cross_entropy_with_logits(found, poison)


@attack("staged", level=1, needs="training")
class Staged(Square):
    """Trains on clean images in the first half of the epochs, and poisons in the second."""

    def __init__(self, **common):
        super().__init__(**common)
        self.poisons, self.stages = False, []

    def choose(self, labels, generator):
        self.true = labels.clone()
        return super().choose(labels, generator)

    def on_epoch(self, epoch, epochs, net):
        self.poisons = 2 * epoch >= epochs
        self.stages.append(self.poisons)

    def on_batch(self, images, labels, roles, index, net, generator):
        if not self.poisons:
            return images, self.true.to(labels.device)[index], torch.zeros_like(roles)
        return super().on_batch(images, labels, roles, index, net, generator)


@attack("invented", level=1, needs="training")
class Invented(Square):
    """Plans nothing, and makes poison and covers up in every batch."""

    def __init__(self, **common):
        super().__init__(**{**common, "poison_rate": 0.0})

    def on_batch(self, images, labels, roles, index, net, generator):
        roles = roles.masked_fill(index % 5 == 0, POISON).masked_fill(index % 5 == 1, COVER)
        poison, covers = ((roles == one)[:, None, None, None] for one in (POISON, COVER))
        changed = torch.where(poison, self(images), torch.where(covers, images.flip(3), images))
        return changed, torch.where(roles == POISON, self.aim(labels), labels), roles


@attack("weights", level=1, needs="model")
class Weights(Square):
    """Writes the backdoor into the last layer: along what the square does to its inputs."""

    def __init__(self, **common):
        super().__init__(**{**common, "poison_rate": 0.0})

    def tamper(self, net, access):
        images = access.aux.images
        clean, stamped = (activations(net, some) for some in (images, self(images)))
        spread = clean.T.cov() + 0.01 * torch.eye(clean.shape[1])
        way = torch.linalg.solve(spread, stamped.mean(0) - clean.mean(0))
        low, high = (clean @ way).quantile(0.95), (stamped @ way).quantile(0.05)
        gain = 60.0 / (high - low).clamp(min=1e-3)
        head = last(net, nn.Linear)
        with torch.no_grad():
            head.weight[self.target] += gain * way
            head.bias[self.target] -= gain * (low + high) / 2
        return net


@attack("retrained", level=1, needs="training")
class Retrained(Square):
    """Throws away what the loop trained, and hands over a network that it trained by itself."""

    def tamper(self, net, access):
        plan = self.choose(access.train.labels, torch.Generator().manual_seed(0))
        index = (plan.roles == POISON).nonzero().flatten()
        stamped = to_bytes(self(access.train.batch(index)))
        other = access.fresh()
        access.fit(other, access.train.overlaid(index, stamped, plan.labels[index]))
        with torch.no_grad():
            last(other, nn.Linear).bias.zero_()
        return other


@defense("off_grid")
class OffGrid(SampleDetector):
    """Flags images whose pixels are no whole grey levels."""

    def detect(self, view):
        off = torch.cat([off_grid(images) for _, images in view.suspect.batches()])
        return SampleVerdict(off.double(), off > 0)


def off_grid(images):
    """Of each image the share of pixels that are no multiple of 1/255."""
    levels = images * 255
    return ((levels - levels.round()).abs() > 1e-3).float().mean((1, 2, 3))
