"""As partition aggregation, but all voters say which of the two leading classes they prefer."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.base import Certificate, Certified, defense
from defenses.votes.certificates import counted, finalists, of_run_off
from defenses.votes.election import Election
from defenses.votes.partitioned import Partitioned


class RunOff(Election):
    """Of the two classes with most votes, the one that more voters prefer; smaller of equals."""

    def forward(self, images: Tensor) -> Tensor:
        """Votes of the second round for the finalists; what others have is below those."""
        counts, duels = self.rounds(images)
        logits = (counts - counts.sum(1, keepdim=True)).float()
        first, second = (place[:, None] for place in finalists(counts))
        rows = torch.arange(len(images), device=counts.device)[:, None]
        logits.scatter_(1, first, duels[rows, first, second].float())
        return logits.scatter_(1, second, duels[rows, second, first].float())

    def certify(self, images: Tensor) -> Certificate:
        labels, radius = of_run_off(*self.rounds(images))
        return Certificate(labels, radius, "insertion or deletion")

    def rounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Votes int64 [N, K], and how many prefer each class to each other: int64 [N, K, K].

        A voter whose scores are equal prefers the smaller class.
        """
        shape = (len(images), self.classes, self.classes)
        counts = torch.zeros(shape[:2], dtype=torch.int64, device=images.device)
        duels = torch.zeros(shape, dtype=torch.int64, device=images.device)
        for some in self.scores(images):
            counts += counted(some.argmax(2), self.classes)
            for upper in range(self.classes):
                for lower in range(upper + 1, self.classes):
                    prefers = (some[:, :, upper] >= some[:, :, lower]).sum(1)
                    duels[:, upper, lower] += prefers
                    duels[:, lower, upper] += some.shape[1] - prefers
        return counts, duels


@defense("run_off_election", source="Rezaei et al. 2023, arXiv:2302.02300", family="partition")
class RunOffElection(Partitioned, Certified):
    """Run-off election over parts of the training set: the two classes with most votes go on.

    Question: as `dpa`, whose parts and voters it has. Voters whose class has lost say which of the
    two finalists they give the higher score, which mostly makes the lead, and with it the proof,
    larger. ``partitions``, ``base``: as there. Costs and limits: as there. Does not apply to fewer
    samples than parts.
    """

    sees = frozenset({"suspect"})
    elects = RunOff
