"""Covers beside poison, and marks that several attacks stamp. No plugin by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.base import CLEAN, COVER, POISON, Plan


def with_covers(
    plan: Plan, per_poison: float, generator: torch.Generator, of: Tensor | None = None
) -> Plan:
    """A plan with ``per_poison`` covers for each poison, none of which is poison already.

    ``of``: bool [N], the samples that may be covers; None for all. Raises ValueError where there
    are too few to choose from.
    """
    clean = plan.roles == CLEAN
    free = (clean if of is None else of & clean).nonzero().flatten()
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
    return in_corner(images, images.new_ones(side, side))


def in_corner(images: Tensor, mark: Tensor) -> Tensor:
    """New images with a square mark, [S, S] or [C, S, S], in the bottom right corner."""
    stamped, side = images.clone(), mark.shape[-1]
    stamped[..., -side:, -side:] = mark
    return stamped
