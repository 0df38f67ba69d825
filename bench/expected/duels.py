"""Which attacker was made against which defense, and which plain attack each is held against."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.toml import read

FILE = Path(__file__).with_name("duels.toml")


class Duel(msgspec.Struct, forbid_unknown_fields=True):
    """``attack`` is a form of ``twin`` that is to evade ``defenses``."""

    attack: str
    twin: str
    defenses: list[str]


class Duels(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    duels: list[Duel]


@lru_cache(maxsize=1)
def duels() -> list[Duel]:
    """What ``duels.toml`` says. Raises BenchError, which names file and entry."""
    return read(FILE, Duels).duels
