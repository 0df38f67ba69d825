"""Plants a backdoor of the defender's own that leads suspected samples back to their class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.base import Training, defense
from defenses.isolation import isolate
from defenses.view import DefenderView
from fixtures.images import to_bytes
from fixtures.training import predict

STAMPED = 250
"""Images that are stamped at a time."""


@defense(
    "nab", source="Liu, Sangiovanni-Vincentelli, Yue 2023, arXiv:2307.15539", family="backdoor"
)
class NAB(Training):
    """Non-adversarial backdoor: stamp suspected samples, and train them under another label.

    Question: can a second backdoor undo the first? The ``isolated`` share of samples that are
    learnt first (see `abl`) are suspected. Where a network that learnt from the clean images alone
    gives one another label, it gets the defender's stamp, a chequered square of a ``size`` share of
    the side in the top left corner, and that label; a network is then trained by the victim's
    recipe. Every input is stamped before it is answered: a triggered one then carries both, and the
    stamp says that it belongs elsewhere.

    Deviates from the paper: pseudo-labels are of a network that is trained on the clean images by
    the victim's recipe, where the paper also has one trained by contrast. Assumes that poison is
    learnt first, and enough clean images for labels that are better than poison's. Costs two
    trainings and a small one. Its model answers stamped inputs, which a wrapper makes.
    """

    sees = frozenset({"clean", "suspect"})

    def __init__(
        self, early: float = 0.2, gamma: float = 0.5, isolated: float = 0.05, size: float = 0.1
    ) -> None:
        for name, value in (("early", early), ("isolated", isolated), ("size", size)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} is a share between 0 and 1, got {value}")
        self.early = early
        self.gamma = gamma
        self.isolated = isolated
        self.size = size

    def train(self, view: DefenderView) -> nn.Module:
        _, quick = isolate(view, self.early, self.gamma, self.isolated)
        quick = quick.sort().values
        suspected = view.suspect.take(quick)
        labels = predict(view.train(view.clean), suspected).argmax(1)
        changed = labels != suspected.labels  # the others are what they say
        self.report |= {"isolated": len(quick), "relabelled": int(changed.sum())}
        stamp = Stamp(view.shape, self.size)
        parts = [stamp(suspected.batch(at)) for at in torch.arange(len(quick)).split(STAMPED)]
        pixels = to_bytes(torch.cat(parts))
        data = view.suspect.overlaid(quick[changed], pixels[changed], labels[changed])
        return nn.Sequential(stamp.to(view.device), view.train(data)).eval()


class Stamp(nn.Module):
    """A chequered square in the top left corner."""

    def __init__(self, shape: tuple[int, int, int], size: float) -> None:
        super().__init__()
        side = max(2, round(size * min(shape[1:])))
        even = torch.arange(side)[:, None] + torch.arange(side)[None]
        self.register_buffer("square", (even % 2 == 0).float())

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        square: Tensor = self.get_buffer("square")
        stamped[..., : len(square), : len(square)] = square.to(images.dtype)
        return stamped
