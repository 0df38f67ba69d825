"""Which part of a training set a sample belongs to: a function of the sample alone."""

from __future__ import annotations

import torch
from torch import Tensor

from fixtures.images import ImageSet


def partitions(data: ImageSet, count: int) -> list[Tensor]:
    """Positions in ``data`` of each part's samples, int64, by a hash of their pixels.

    A sample that comes, goes or changes its label moves nothing but its own part; one whose pixels
    change moves two. Inside a part samples are ordered by hash and label, so that what is learnt of
    it is a function of its set of samples. A part may be empty.
    """
    digests = data.digests()
    order = data.labels.argsort(stable=True)
    order = order[digests[order].argsort(stable=True)]
    part = digests[order].remainder(count)
    by_part = part.argsort(stable=True)
    sizes = torch.bincount(part, minlength=count)
    return list(order[by_part].split(sizes.tolist()))


def checked_count(count: int) -> int:
    """A number of parts. Raises ValueError for none."""
    if count < 1:
        raise ValueError(f"partitions is a number from 1, got {count}")
    return count


def too_many(count: int, data: ImageSet) -> str | None:
    """Why a set cannot be split in so many parts: most of them would be empty. Else None."""
    few = count > len(data)
    return f"{count} partitions are more than the {len(data)} samples" if few else None
