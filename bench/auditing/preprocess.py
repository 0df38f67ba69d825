"""How a network wants its images, and the network that is handed them so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fixtures.errors import BenchError
from fixtures.images import LEVELS
from fixtures.models.timm import Normalised


@dataclass(frozen=True)
class Preprocess:
    """``(scale * image - mean) / std`` of images in [0, 1].

    ``mean``, ``std``: one for each channel, or one for all; in units of ``scale``.
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0

    def fits(self, channels: int) -> bool:
        """Whether it has a mean and a deviation for each of so many channels."""
        return {len(self.mean), len(self.std)} <= {1, channels}


KNOWN = (
    Preprocess("as they are, in [0, 1]"),
    Preprocess("mean 0.5, std 0.5", (0.5,), (0.5,)),
    Preprocess("ImageNet's mean and std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Preprocess("CIFAR-10's mean and std", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    Preprocess("MNIST's mean and std", (0.1307,), (0.3081,)),
    Preprocess("bytes from 0 to 255", scale=float(LEVELS)),
)
"""What is tried where nothing is said, the plainest first."""


def read(text: str) -> Preprocess:
    """``mean=.5,.5,.5;std=.25,.25,.25;scale=255``. Raises BenchError, one line."""
    given: dict[str, tuple[float, ...]] = {}
    for part in filter(None, text.split(";")):
        name, _, values = part.partition("=")
        try:
            given[name.strip()] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise BenchError(f"--preprocess: {part!r} is not NAME=NUMBER,NUMBER") from None
    unknown = sorted(set(given) - {"mean", "std", "scale"})
    if unknown or not given:
        what = f"unknown {', '.join(unknown)}" if unknown else "it is empty"
        raise BenchError(f"--preprocess: {what}; known: mean, std, scale")
    scale = given.get("scale", (1.0,))
    if 0.0 in (*given.get("std", ()), *scale) or len(scale) != 1:
        raise BenchError("--preprocess: std has no zero, and scale is one number, not zero")
    return Preprocess(text, given.get("mean", (0.0,)), given.get("std", (1.0,)), scale[0])


def prepared(net: nn.Module, how: Preprocess) -> Normalised:
    """The network behind its preprocessing: float32 [N, C, H, W] in [0, 1] -> logits [N, K]."""
    mean, std = torch.tensor(how.mean), torch.tensor(how.std)
    return Normalised(net, mean / how.scale, std / how.scale).eval()
