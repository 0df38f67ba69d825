"""Plants a backdoor of the defender's own that leads suspected samples back to their class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.base import Training, defense
from defenses.view import DefenderView
from defenses.votes.credibility import credibility, least
from fixtures.images import to_bytes

STAMPED = 250
"""Images that are stamped at a time."""


@defense(
    "nab", source="Liu, Sangiovanni-Vincentelli, Yue 2023, arXiv:2307.15539", family="backdoor"
)
class NAB(Training):
    """Non-adversarial backdoor: stamp suspected samples, and train them under another label.

    Question: can a second backdoor undo the first? The ``suspected`` share of each label that votes
    of small classifiers believe least (`defenses.votes.credibility`) gets the defender's stamp, a
    chequered square of a ``size`` share of the side in the top left corner, and the label that has
    most votes; a network is then trained by the victim's recipe. Every input is stamped before it
    is answered: a triggered one then carries both, and the stamp says that it belongs elsewhere.

    The paper leaves open how samples are suspected and relabelled, and uses other methods for both.
    Assumes poison whose label contradicts its picture, and no label of which more than
    ``suspected`` is poison: the rest is trained on as it is. Where the recipe mirrors or shifts
    images the stamp moves along. Costs little more than one training. Its model answers stamped
    inputs, which a wrapper makes. Does not apply where the network's architecture is not known.
    """

    sees = frozenset({"suspect"})

    def __init__(self, suspected: float = 0.3, size: float = 0.1) -> None:
        for name, value in (("suspected", suspected), ("size", size)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} is a share between 0 and 1, got {value}")
        self.suspected = suspected
        self.size = size

    def supports(self, view: DefenderView) -> str | None:
        return "the network's architecture is not known" if view.fresh is None else None

    def train(self, view: DefenderView) -> nn.Module:
        share, voted = credibility(view)
        labels = view.suspect.labels
        # Of those that are believed least, the ones whose label has most votes are what they say.
        doubted = (least(share, labels, self.suspected) & (voted != labels)).nonzero()[:, 0]
        self.report["stamped"] = len(doubted)
        stamp = Stamp(view.shape, self.size)
        data = view.suspect
        if len(doubted):
            parts = [stamp(data.batch(at)) for at in doubted.split(STAMPED)]
            data = data.overlaid(doubted, to_bytes(torch.cat(parts)), voted[doubted])
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
