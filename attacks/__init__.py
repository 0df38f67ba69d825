"""One small file per attack: a trigger and how it poisons.

May import `fixtures`; never `defenses`, `bench` or a sibling attack.
"""

from attacks.base import ATTACKS, Attack, AttackInfo, PoisonedSet, attack

__all__ = ["ATTACKS", "Attack", "AttackInfo", "PoisonedSet", "attack"]
