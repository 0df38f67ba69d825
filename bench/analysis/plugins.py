"""What attacks say of themselves. Records outlive plugins: one that is not loaded says nothing."""

from __future__ import annotations

from attacks import ATTACKS


def info(attack: str, field: str) -> str:
    """A field of an attack's `AttackInfo`, as text."""
    return str(getattr(ATTACKS[attack].info, field)) if attack in ATTACKS else ""


def summary(attack: str) -> str:
    """The first line of an attack's docstring."""
    return ATTACKS[attack].summary if attack in ATTACKS else ""


def power(attack: str) -> str:
    """What the attacker needs, for a filter."""
    if attack not in ATTACKS:
        return "unknown"
    return info(attack, "needs") or "nothing"
