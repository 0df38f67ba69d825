"""One small file per attack: a trigger and how it poisons.

May import `fixtures`; never `defenses`, `bench` or a sibling attack.
"""

from attacks.access import Access
from attacks.base import (
    ATTACKS,
    CLEAN,
    COVER,
    POISON,
    Attack,
    AttackInfo,
    Plan,
    attack,
)

__all__ = [
    "ATTACKS",
    "CLEAN",
    "COVER",
    "POISON",
    "Access",
    "Attack",
    "AttackInfo",
    "Plan",
    "attack",
]
