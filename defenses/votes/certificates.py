"""How many changes of a training set cannot turn a vote. Pure functions of the votes.

In all of them labels count from 0, of equal counts the smaller label wins, and a proof counts that
tie as the rule has it. ``radius`` is the most changes that are certain to change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max // 4
"""A number of changes that nobody makes: no change whatever turns the vote."""


def counted(votes: Tensor, classes: int) -> Tensor:
    """How many vote for each class: votes int64 [N, P] -> int64 [N, K]."""
    ones = torch.ones((), dtype=torch.int64, device=votes.device).expand_as(votes)
    empty = torch.zeros(len(votes), classes, dtype=torch.int64, device=votes.device)
    return empty.scatter_add_(1, votes, ones)


def leads(counts: Tensor, labels: Tensor) -> Tensor:
    """By how much each label leads each other class: int64 [N, K], from counts int64 [N, K].

    As many votes as the other must gain on it to win, a change of one vote from the label to the
    other counting two: one more where an equal count falls to the label, which is the smaller.
    """
    own = counts.gather(1, labels[:, None])
    return own - counts + (torch.arange(counts.shape[1], device=counts.device) > labels[:, None])


def of_plurality(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and radius, int64 [N], where a change of the training set moves one vote at most.

    Levine and Feizi 2021, theorem 1: a vote that goes from the winner to another class narrows its
    lead by two.
    """
    labels = counts.argmax(1)
    lead = leads(counts, labels).scatter(1, labels[:, None], NEVER)
    return labels, halved(lead.amin(1)) - 1


def halved(lead: Tensor) -> Tensor:
    """The fewest changes that use up a lead, by two each: 0 where there is none."""
    return (lead.clamp(min=0) + 1) // 2


def of_run_off(counts: Tensor, duels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and radius of an election in two rounds, where a change moves one voter at most.

    ``counts`` int64 [N, K]: the first round, from which two classes go on. ``duels`` int64
    [N, K, K]: how many voters prefer the first class to the second, were those two left. The label
    wins the second round.

    Rezaei et al. 2023, theorem 2. The label loses if two other classes overtake it in the first
    round, or if another class gets into the second and wins there. Voters who change may do both,
    so the fewest changes for the latter are the larger of the two numbers. For the former each
    voter, at best, takes a vote from the label and gives it to one of the two: leads a and b fall
    by two and one, or by one and two, which takes max(a / 2, b / 2, (a + b) / 3) voters.
    """
    images, classes = counts.shape
    rows = torch.arange(images, device=counts.device)
    first, second = finalists(counts)
    upper, lower = duels[rows, first, second], duels[rows, second, first]
    labels = torch.where(upper >= lower, first, second)

    ahead = leads(counts, labels).clamp(min=0)
    ahead = ahead.scatter(1, labels[:, None], NEVER)
    fewest = torch.full((images,), NEVER, device=counts.device)
    if classes > 2:
        a, b = ahead.topk(2, 1, largest=False).values.unbind(1)
        fewest = torch.maximum(halved(b), (a + b + 2) // 3)

    against = torch.stack([duels[rows, :, labels], duels[rows, labels, :]])  # theirs, the label's
    behind = against[1] - against[0]
    behind = behind + (torch.arange(classes, device=counts.device) > labels[:, None])
    for other in range(classes):
        # To reach the second round with the label it must be ahead of every third class; the
        # strongest of them decides.
        rival = torch.full_like(labels, other)
        before = -leads(counts, rival) + 1  # of each class over the rival, ties as the rule has it
        before = before.scatter(1, labels[:, None], 0).scatter(1, rival[:, None], 0)
        enters = halved(before.amax(1))
        wins = halved(behind[:, other])
        takes = torch.maximum(enters, wins)
        fewest = torch.where(labels == other, fewest, torch.minimum(fewest, takes))
    return labels, fewest - 1


def finalists(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The two classes with most votes, the smaller one of equals, in the order of classes: [N]."""
    classes = counts.shape[1]
    order = counts * classes - torch.arange(classes, device=counts.device)
    first, second = order.topk(2, 1).indices.sort(1).values.unbind(1)
    return first, second


def of_spread(votes: Tensor, classes: int, spread: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Labels and radius where a change moves the voters of one of P partitions at most.

    ``votes`` int64 [N, P]: voter i learns from the partitions i + s, modulo P, for each s of
    ``spread``: so partition j moves the voters j - s.

    Wang et al. 2022, theorem 2: against another class a partition can do as much as its voters can:
    each narrows the lead by two if it votes for the label, not at all if it votes for that class
    already, and by one otherwise. The attacker takes the partitions that do most first.
    """
    counts = counted(votes, classes)
    labels = counts.argmax(1)
    lead = leads(counts, labels).cpu().numpy()
    cast, told = votes.to(torch.int16).cpu().numpy(), labels.cpu().numpy()
    for_label = (cast == told[:, None]).astype(np.int8)
    most = 2 * len(spread)
    fewest = np.full(len(cast), NEVER)
    # The runner-up decides nearly always: others are looked at only where they could do better.
    for image in range(len(cast)):
        for rival in lead[image].argsort(kind="stable"):
            if rival == told[image]:
                continue
            if -(-lead[image, rival] // most) >= fewest[image]:
                break
            harm = 1 + for_label[image] - (cast[image] == rival).astype(np.int8)
            takes = _fewest(_by_partition(harm, spread), int(lead[image, rival]), most)
            fewest[image] = min(fewest[image], takes)
    return labels, torch.from_numpy(fewest - 1).to(votes.device)


def _by_partition(harm: NDArray[np.int8], spread: Sequence[int]) -> NDArray[np.int16]:
    """What all voters of each partition can do together: int8 [P] -> int16 [P]."""
    total = np.zeros(len(harm), dtype=np.int16)
    for step in spread:
        total += np.roll(harm, step)
    return total


def _fewest(harm: NDArray[np.int16], lead: int, most: int) -> int:
    """The fewest partitions, the most harmful first, that use up the lead."""
    if lead <= 0:
        return 0
    count = np.bincount(harm, minlength=most + 1)[::-1]  # from the most harmful down
    each = np.arange(most, -1, -1)
    reached = np.cumsum(count * each)
    at = int(np.searchsorted(reached, lead))
    if at == len(each) or each[at] == 0:
        return NEVER
    before = int(reached[at - 1]) if at else 0
    return int(count[:at].sum()) + -(-(lead - before) // int(each[at]))


def of_bags(counts: Tensor, samples: int, bag: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Labels and radius of voters who each learnt from ``bag`` samples, drawn with replacement.

    ``samples``: n, in the training set. ``alpha``: the share of certificates that may be wrong
    by chance; -1 for an image of which nothing is certain. The radius counts samples that are
    modified, deleted or inserted.

    Jia et al. 2021, theorem 1 and algorithm 1: the label's share of all voters that might be drawn
    is at least p, and any other's at most q, by Clopper and Pearson's bounds, which hold together
    with probability 1 - alpha by Bonferroni's correction. Then r changes turn nothing if for every
    size m of the changed set, n - r <= m <= n + r,

        (m / n)^bag - 2 ((max(m, n) - r) / n)^bag + 1 < p - q.

    Their terms that round p and q to multiples of n^-bag only sharpen it and are left out.
    Deviates: ``alpha`` is of each image, theirs of all test images together; each class has a bound
    on either side, so the correction is over twice the classes; ``<`` is asked for with a margin of
    1e-9.
    """
    from scipy.stats import beta

    labels = counts.argmax(1)
    total, each = counts.sum(1).cpu().numpy(), alpha / (2 * counts.shape[1])
    own = counts.gather(1, labels[:, None])[:, 0].cpu().numpy()
    others = counts.scatter(1, labels[:, None], -1).amax(1).cpu().numpy()
    p = beta.ppf(each, own, total - own + 1)
    q = np.minimum(beta.ppf(1 - each, others + 1, total - others), 1 - p)
    radius = np.searchsorted(_gap_needed(samples, bag), p - q - 1e-9) - 1
    return labels, torch.from_numpy(radius).to(counts.device, torch.int64)


def _gap_needed(samples: int, bag: int) -> NDArray[np.float64]:
    """The gap that r changes need at least, for r from 0 to all samples.

    That of m = n. Smaller sets need less. Larger ones need more only where m / (m - r) at n exceeds
    the (bag - 1)-th root of two, so (1 - r / n)^(bag - 1) is under a half: then m = n needs more
    than 1 already, and no gap is that large.
    """
    return np.asarray(2 * (1 - (1 - np.arange(samples + 1) / samples) ** bag))
