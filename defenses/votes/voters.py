"""Those who vote."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Voters(nn.Module):
    """Small classifiers of images in ``classes`` classes, ``voters`` of them."""

    def __init__(self, voters: int, classes: int) -> None:
        super().__init__()
        self.voters = voters
        self.classes = classes

    def scores(self, images: Tensor) -> Iterator[Tensor]:
        """What some voters after others say of images: float32 [N, V, K], V of all in turn."""
        raise NotImplementedError(f"{type(self).__name__} has no scores(images)")
