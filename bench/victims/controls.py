"""Which other victims a cell's figures are taken on, too."""

from __future__ import annotations

import dataclasses

from attacks import Attack
from bench.spec.cell import Cell


def clean_twin(cell: Cell, attack: Attack) -> Cell | None:
    """The same model without a backdoor; None where the attack makes none."""
    if not attack.backdoors:
        return None
    return dataclasses.replace(cell, attack="none", attack_params=())


def other_seed(cell: Cell, attack: Attack) -> Cell | None:
    """The same attack from the next seed, where its trigger is learned; None where it is not."""
    return dataclasses.replace(cell, seed=cell.seed + 1) if attack.learned else None
