"""The samples that a network learns first. No plugin by itself."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses.view import DefenderView
from fixtures.training import predict


def isolate(
    view: DefenderView, early: float, gamma: float, share: float
) -> tuple[nn.Module, Tensor]:
    """A network after its first passes, and positions int64 of the samples that it learnt best."""

    def ascent(logits: Tensor, labels: Tensor, _index: Tensor) -> Tensor:
        each = cross_entropy(logits, labels, reduction="none")
        return (each - gamma).sign().detach() * each

    net = view.train(
        view.suspect,
        loss=ascent,
        epochs=max(1, round(early * view.recipe.epochs)),
        min_steps=round(early * view.recipe.min_steps),
    )
    losses = cross_entropy(predict(net, view.suspect), view.suspect.labels, reduction="none")
    count = max(1, round(share * len(losses)))
    return net, losses.argsort(stable=True)[:count]
