"""Which attacks are known to defeat a defense."""

from __future__ import annotations

from attacks import ATTACKS
from defenses import DEFENSES


def defeated_by(defense: str) -> list[str]:
    """Attacks that the defense names itself, and those that are made against it, by name.

    Not those of which their own paper says that the defense stops them.
    """
    known = {name: ATTACKS[name].info for name in ATTACKS.names()}
    made = {name for name, info in known.items() if defense in info.made_against}
    stopped = {name for name, info in known.items() if defense in info.defeated_by}
    return sorted({*DEFENSES[defense].info.defeated_by, *(made - stopped)})
