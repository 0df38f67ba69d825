"""Which attacks are known to defeat a defense."""

from __future__ import annotations

from attacks import ATTACKS
from defenses import DEFENSES


def defeated_by(defense: str) -> list[str]:
    """Attacks that the defense names itself, and those that are made against it, by name."""
    made = [name for name in ATTACKS.names() if defense in ATTACKS[name].info.made_against]
    return sorted({*DEFENSES[defense].info.defeated_by, *made})
