"""Covers beside poison, and marks that several attacks stamp. No plugin by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.base import CLEAN, COVER, POISON, Plan


def with_covers(plan: Plan, per_poison: float, of: Tensor, generator: torch.Generator) -> Plan:
    """A plan with ``per_poison`` covers for each poison, among the samples of ``of`` bool [N].

    None is poison already. Raises ValueError where there are too few to choose from.
    """
    free = (of & (plan.roles == CLEAN)).nonzero().flatten()
    wanted = round(per_poison * int((plan.roles == POISON).sum()))
    if wanted > len(free):
        raise ValueError(
            f"covers_per_poison {per_poison:g} asks for {wanted} covers; "
            f"only {len(free)} samples are eligible"
        )
    roles = plan.roles.clone()
    roles[free[torch.randperm(len(free), generator=generator)[:wanted]]] = COVER
    return Plan(roles, plan.labels)


def white_square(images: Tensor, side: int) -> Tensor:
    """New images with a white square of ``side`` pixels in the bottom right corner."""
    stamped = images.clone()
    stamped[..., -side:, -side:] = 1.0
    return stamped
