"""``-p kinds``: a defense of every sort that no built-in one is, in a few lines each."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from defenses import (
    Certificate,
    Certified,
    Repair,
    SampleDetector,
    SampleVerdict,
    Training,
    defense,
)


@defense("trimmed")
class Trimmed(Training):
    """Train on all samples but, in every batch, the quarter whose losses are largest."""

    def train(self, view):
        def loss(logits, labels, _index):
            each = cross_entropy(logits, labels, reduction="none")
            return each * (each <= each.detach().quantile(0.75))

        return view.train(view.suspect, loss=loss)


@defense("from_the_clean")
class FromTheClean(Training):
    """Throw the training set away and train on the clean images alone."""

    sees = frozenset({"clean"})

    def train(self, view):
        return view.train(view.clean)


@defense("partitions", source="Levine and Feizi 2021, arXiv:2006.14768")
class Partitions(Certified):
    """Networks that each see the images of one hash vote: one changed image turns two votes."""

    sees = frozenset({"suspect"})

    def __init__(self, parts: int = 5, steps: int = 100) -> None:
        self.parts = parts
        self.steps = steps

    def train(self, view):
        part = view.suspect.digests() % self.parts
        sets = [view.suspect.take(part == k) for k in range(self.parts)]
        nets = [view.train(one, min_steps=self.steps) for one in sets]
        return Votes(nets, view.num_classes)


class Votes(nn.Module):
    """The class that most networks vote for, the smaller one where two are even."""

    def __init__(self, nets, classes):
        super().__init__()
        self.nets, self.classes = nn.ModuleList(nets), classes

    def forward(self, images):
        votes = sum(one_hot(net(images).argmax(1), self.classes) for net in self.nets)
        return votes - torch.linspace(0, 0.5, self.classes, device=images.device)

    def certify(self, images):
        first, second = self(images).topk(2).values.unbind(1)
        lead = (first - second).floor().long()  # an even vote falls to the smaller class
        return Certificate(self(images).argmax(1), lead // 2, "insertion or deletion")


@defense("choosy")
class Choosy(Repair):
    """Supports nothing."""

    def supports(self, view):
        return f"{view.num_classes} classes are too many"

    def repair(self, view):
        raise AssertionError("it said that it supports nothing")


@defense("peeks")
class Peeks(Repair):
    """Asks for what it does not see."""

    def repair(self, view):
        return view.train(view.suspect)


@defense("borrowed")
class Borrowed(SampleDetector):
    """Features from elsewhere: flag what lies far from the clean images of its label."""

    sees = frozenset({"clean", "suspect", "pretrained"})

    def detect(self, view):
        inputs = view.shape[0] * view.shape[1] * view.shape[2]
        weights = torch.randn(inputs, 64, generator=torch.Generator().manual_seed(0))

        def features(data):
            return torch.cat([images.flatten(1) @ weights for _, images in data.batches()])

        known, found = features(view.clean), features(view.suspect)
        labels = range(view.num_classes)
        centres = torch.stack([known[view.clean.labels == label].mean(0) for label in labels])

        def distance(features, data):
            return (features - centres[data.labels]).norm(dim=1)

        scores = distance(found, view.suspect)
        return SampleVerdict(scores, scores > distance(known, view.clean).quantile(0.99))
