"""Classifiers that each learnt from a few random samples vote: a changed one is in few of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.base import Certificate, Certified, defense
from defenses.view import DefenderView
from defenses.votes.certificates import counted, of_bags
from defenses.votes.election import Base, Election, checked, voters
from defenses.votes.voters import Voters


@defense("bagging", source="Jia et al. 2021, arXiv:2008.04495", family="bagging")
class Bagging(Certified):
    """Let classifiers vote that each learnt from ``bag`` samples, drawn with replacement.

    Question: how many samples would an attacker have to change to turn the vote of all bags that
    might be drawn? ``voters`` are drawn of them, so what the vote would be is known up to chance:
    ``alpha`` of the certificates may be wrong, and where the vote is too close for that the model
    abstains. A sample that is modified, deleted or inserted counts one.

    ``base``: as in `dpa`. Deviates from the paper: its voters are networks; bounds are a little
    wider, see `defenses.votes.certificates.of_bags`. The proof is of the samples that the attacker
    changes before the bags are drawn. Costs what `dpa` costs with as many voters.
    """

    sees = frozenset({"suspect"})

    def __init__(
        self, voters: int = 500, bag: int = 20, alpha: float = 0.001, base: Base = "ridge"
    ) -> None:
        if voters < 1 or bag < 1:
            raise ValueError(f"voters and bag are numbers from 1, got {voters} and {bag}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is a share between 0 and 1, got {alpha}")
        self.voters = voters
        self.bag = bag
        self.alpha = alpha
        self.base = checked(base)

    def train(self, view: DefenderView) -> nn.Module:
        drawn = torch.randint(len(view.suspect), (self.voters, self.bag), generator=view.generator)
        made = voters(self.base, view.suspect, list(drawn), view)
        return Bags(made, len(view.suspect), self.bag, self.alpha)


class Bags(Election):
    """The class with most votes, the smaller one of equals."""

    def __init__(self, voters: Voters, samples: int, bag: int, alpha: float) -> None:
        super().__init__(voters)
        self.samples, self.bag, self.alpha = samples, bag, alpha

    def certify(self, images: Tensor) -> Certificate:
        counts = counted(self.votes(images), self.classes)
        labels, radius = of_bags(counts, self.samples, self.bag, self.alpha)
        return Certificate(labels, radius, "modification", self.alpha)
