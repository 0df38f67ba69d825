"""What a network calls test images that are changed once more before it sees them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fixtures.images import ImageSet, to_floats
from fixtures.training import predict

PART = 1000
"""Images that are changed at a time: no set is copied."""

Change = Callable[[Tensor, Tensor], Tensor]
"""(images float32 [B, C, H, W] in [0, 1], their positions int64 [B]) -> images alike."""


def classes_of_changed(net: nn.Module, images: ImageSet, change: Change) -> Tensor:
    """The class that a network gives each image after ``change``: int64 [N].

    Changed images are handed over as all others are: rounded to bytes, and encoded like the files
    of ``images`` where those carry a lattice.
    """
    found = []
    for index, batch in images.batches(PART):
        handed = to_floats(images.encoded(index, change(batch, index)))
        found.append(predict(net, handed).argmax(1))
    return torch.cat(found)
