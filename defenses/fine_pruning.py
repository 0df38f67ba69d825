"""Prunes the units that clean images activate least, then fine-tunes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from types import MappingProxyType

import torch
from torch import Tensor, nn

from defenses.base import Repair, defense
from defenses.view import DefenderView
from fixtures.anatomy import Anatomy, Units, masked, means, silence
from fixtures.recipes import changes
from fixtures.training import accuracy

PARTS = 64
"""Units are pruned one by one, of a layer with more than so many that share of them at a time."""

TRAJECTORY = 8
"""Points of the figure, beside that of the received network."""


@defense("fine_pruning", source="Liu, Dolan-Gavitt, Garg 2018, arXiv:1805.12185")
class FinePruning(Repair):
    """Prune the units that clean images use least, then fine-tune on the clean split.

    Question: can the backdoor's own units be cut out? The units of one late layer (`prunable`) are
    ranked by mean activation on clean images and pruned from the least active on, while accuracy
    on a held-out part of the clean split stays within ``tolerance`` of what it was. What is left
    is fine-tuned on the whole clean split with pruned units held at zero: by the victim's own
    recipe, but for ``epochs``, ``min_steps``, a peak learning rate ``lr_scale`` times as high and
    random shifts of up to ``shift`` pixels. Defaults chosen on ``digits``, the tolerance on MNIST's
    clean model and the pixel trigger.

    Deviates from the paper: one-cycle learning rate and random shifts, since the clean split is
    small; a pruned unit puts out zero behind its batch norm, where the paper's networks have none;
    a transformer, which the paper does not treat, loses units of its last block's linear layers.
    Assumes that the backdoor's units are inactive on clean images: a backdoor that shares its units
    with clean classes is left to the fine-tuning. Costs one small training run.
    """

    trajectory_label = "units pruned"
    grid = MappingProxyType({"tolerance": (0.0, 0.02, 0.1), "lr_scale": (1.0, 2.5, 5.0)})

    def __init__(
        self,
        tolerance: float = 0.02,
        held_out: float = 0.2,
        epochs: int = 20,
        min_steps: int = 200,
        lr_scale: float = 2.5,
        shift: int = 2,
    ) -> None:
        self.tolerance = tolerance
        self.held_out = held_out
        self.lr_scale = lr_scale
        self.changes = changes(epochs=epochs, min_steps=min_steps, shift=shift)

    def supports(self, view: DefenderView) -> str | None:
        found = view.anatomy()
        if prunable(found) is not None:
            return None
        return found.lacks.get("units", f"{type(view.model).__name__} has neither maps nor tokens")

    def repair(self, view: DefenderView) -> nn.Module:
        net, units = view.model, prunable(view.anatomy())
        assert units is not None
        self._received = copy.deepcopy(net)
        self._at = units.at
        held_out, rest = view.held_out(self.held_out)

        (active,) = means(net, rest, [units], torch.relu)
        self._order = active.argsort(stable=True)
        curve: list[dict[str, float]] = []
        pruned = 0
        for count in range(0, len(units), max(1, len(units) // PARTS)):
            with masked([(units, alive(units, self._order[:count]))]):
                curve.append({"pruned": count, "clean_accuracy": accuracy(net, held_out)})
            if curve[-1]["clean_accuracy"] < curve[0]["clean_accuracy"] - self.tolerance:
                break
            pruned = count
        self.report |= {"curve": curve, "units": len(units), "pruned": pruned, "layer": units.name}

        with masked([(units, alive(units, self._order[:pruned]))]):
            view.fine_tune(net, lr_scale=self.lr_scale, **self.changes)
        silence(units.output, self._order[:pruned])
        return net

    def trajectory(self) -> Iterable[tuple[int, nn.Module]]:
        """The received network with more and more units pruned, before any fine-tuning."""
        count = len(self._order)
        for pruned in range(0, count + 1, max(1, count // TRAJECTORY)):
            net = copy.deepcopy(self._received)
            silence(net.get_submodule(self._at), self._order[:pruned])
            yield pruned, net


def prunable(found: Anatomy) -> Units | None:
    """The last layer of maps; where tokens come after it, what lies between the last two layers.

    Those of a transformer's last block, say. None where a network has neither.
    """
    spread = [units for units in found.units if units.form != "features"]
    if not spread or spread[-1].form == "maps":
        return spread[-1] if spread else None
    return spread[-2] if len(spread) > 1 else None


def alive(units: Units, pruned: Tensor) -> Tensor:
    """One for each unit, zero for those at the positions ``pruned``: float32 [U]."""
    mask = torch.ones(len(units), device=pruned.device)
    mask[pruned] = 0
    return mask
