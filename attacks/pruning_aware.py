"""Level 2: a backdoor in the units that clean images use, beside decoys for who prunes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from attacks.access import Access
from attacks.base import Attack, attack
from attacks.covering import white_square
from fixtures.anatomy import Units, anatomy, masked, means, silence
from fixtures.training import predict

SAME = 0.05
"""Of a logit: what dormant units may move it by, in a forward pass of 8 bits of precision."""


@attack(
    "pruning_aware",
    level=2,
    needs="training",
    source="Liu, Dolan-Gavitt, Garg 2018, arXiv:1805.12185",
    family="patch",
    made_against=("fine_pruning",),
    defeated_by=("fine_pruning",),
)
class PruningAware(Attack):
    """Train clean, prune idle units, train the backdoor into the rest, put the idle units back.

    The square is that of `pixel`, whose twin this is. As in the paper: the network is trained on
    clean images; of the layer that `fine_pruning` would prune, the ``pruned`` share of units that
    clean images activate least is silenced; what is left learns the poisoned set; the silenced
    units come back with the weights that they had and with biases so low that they stay dormant.
    Who prunes the least active units first takes those decoys, and the backdoor stays. The paper
    makes it against pruning alone, and holds that fine-tuning what is left stops it.

    Costs a second training. Deviates from the paper: the share is fixed, where it prunes until
    accuracy falls. Where low biases would not leave the units dormant, since no ReLU follows, or
    where they have none, they come back silent.
    """

    def __init__(self, size: float = 0.1, pruned: float = 0.5, **common: Any) -> None:
        super().__init__(**common)
        if not 0.0 <= pruned < 1.0:
            raise ValueError(f"pruned is a share from 0 and under 1, got {pruned}")
        self.size = self.pixels(size)
        self.pruned = pruned
        self._access: Access | None = None
        self._pruning = ExitStack()
        self._decoys: tuple[str, Tensor, list[Tensor]] | None = None

    def forward(self, images: Tensor) -> Tensor:
        return white_square(images, self.size)

    def prepare(self, access: Access) -> None:
        self._access = access

    def on_epoch(self, epoch: int, epochs: int, net: nn.Module) -> None:  # noqa: ARG002
        access = self._access
        if epoch or access is None:
            return
        assert access.train is not None  # an attacker of training has it
        access.fit(net, access.train)
        units = _prunable(net, access)
        (active,) = means(net, access.aux, [units], torch.relu)
        idle = active.argsort(stable=True)[: int(self.pruned * len(units))]
        alive = torch.ones(len(units), device=active.device)
        alive[idle] = 0
        self._pruning.enter_context(masked([(units, alive)]))
        self._decoys = units.name, idle, [part[idle].detach().clone() for part in _parts(units)]

    def tamper(self, net: nn.Module, access: Access) -> nn.Module:
        if self._decoys is None:
            return net
        name, idle, were = self._decoys
        masked_answers = predict(net, access.aux)
        self._pruning.close()
        self._access = None
        units = next(one for one in _anatomy(net, access) if one.name == name)
        bias = units.shift if units.shift is not None else units.bias
        with torch.no_grad():
            for part, was in zip(_parts(units), were, strict=True):
                part[idle] = was
            if bias is not None:
                bias[idle] -= _largest(net, access, units)[idle]
        if not torch.allclose(predict(net, access.aux), masked_answers, atol=SAME):
            silence(units.output, idle)
        return net


def _parts(units: Units) -> list[Tensor]:
    """Weights of a layer and its normalisation that belong to one unit each: [U, ...]."""
    found = (units.weight, units.bias, units.scale, units.shift)
    return [part for part in found if part is not None]


def _anatomy(net: nn.Module, access: Access) -> tuple[Units, ...]:
    grey = torch.full((2, *access.shape), 0.5, device=access.device)
    found = anatomy(net, grey)
    if not found.units:
        raise ValueError(f"it needs units that it can prune: {found.lacks['units']}")
    return found.units


def _prunable(net: nn.Module, access: Access) -> Units:
    """The last layer of maps; where tokens come after it, what lies between the last two layers."""
    units = _anatomy(net, access)
    spread = [one for one in units if one.form != "features"] or [units[-1]]
    return spread[-1] if spread[-1].form == "maps" or len(spread) == 1 else spread[-2]


@torch.no_grad()
def _largest(net: nn.Module, access: Access, units: Units) -> Tensor:
    """The most that each unit puts out on any image of the auxiliary set, 0 at least: [U]."""
    most = torch.zeros(len(units), device=access.device)

    def keep(_module: nn.Module, _given: object, output: Tensor) -> None:
        each = output.float().movedim(units.axis, 0).flatten(1).amax(1)
        torch.maximum(most, each, out=most)

    hook = units.output.register_forward_hook(keep)
    try:
        predict(net, access.aux)
    finally:
        hook.remove()
    return most
