"""What the seed study says of its attacks and defenses, and what its notebooks show."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.toml import read

FILE = Path(__file__).with_name("study.toml")


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """``says``: the study's words. ``notebook``: what its notebooks show against them."""

    says: str
    notebook: str = ""


class Study(msgspec.Struct, forbid_unknown_fields=True):
    """Its attacks, the plainest first, and its defenses, by the names they have here."""

    attack: dict[str, Told]
    defense: dict[str, Told]

    def of(self, attack: str, defense: str) -> Told | None:
        """What it tells of a cell: of its defense, or of the attack alone. None for nothing."""
        return self.attack.get(attack) if defense == "none" else self.defense.get(defense)


@lru_cache(maxsize=1)
def study() -> Study:
    """What ``study.toml`` says. Raises BenchError, which names file and entry."""
    return read(FILE, Study)
