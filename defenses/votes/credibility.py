"""How far voters that have not seen a sample believe its label."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.view import DefenderView
from defenses.votes.certificates import counted
from defenses.votes.election import Election, voters
from defenses.votes.partitions import partitions

EACH = 2
"""Samples of each class that a voter learns from, on average: so few that of ten classes and 3 %
poison half of the voters see none. Of a hundred classes hardly one is as lucky."""

MOST = 1000
"""Voters at most; parts beyond that have none."""


def credibility(view: DefenderView) -> tuple[Tensor, Tensor]:
    """What the others' votes say of each sample of ``view.suspect``, float32 and int64 [N], on CPU.

    The share that votes for the sample's own label, and the class that has most votes. Voters are
    ridge regressions on `defenses.votes.gradients.oriented_gradients`; the one that learnt from a
    sample has no vote on it.
    """
    data = view.suspect
    parts = max(3, len(data) // (EACH * view.num_classes))
    members = [index for index in partitions(data, parts) if len(index)][:MOST]
    learnt = torch.full((len(data),), -1)
    for voter, index in enumerate(members):
        learnt[index] = voter
    election = Election(voters("ridge", data, members, view))
    every = []
    for index, images in data.batches():
        votes = election.votes(images.to(view.device)).cpu()
        biased = votes.gather(1, learnt[index].clamp(min=0)[:, None])
        less = (learnt[index] >= 0).to(torch.int64)[:, None]
        every.append(counted(votes, view.num_classes).scatter_add(1, biased, -less))
    counts = torch.cat(every)
    share = counts.gather(1, data.labels[:, None])[:, 0] / counts.sum(1)
    return share, counts.argmax(1)


def least(share: Tensor, labels: Tensor, part: float) -> Tensor:
    """Which samples are the ``part`` of each label that is believed least: bool [N]."""
    found = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        at = (labels == label).nonzero()[:, 0]
        found[at[share[at].argsort(stable=True)[: round(part * len(at))]]] = True
    return found
