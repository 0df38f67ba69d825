"""What the seed study claims of its attacks and defenses, and what its notebooks show."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.toml import read

FILE = Path(__file__).with_name("study.toml")


class AttackClaim(msgspec.Struct, forbid_unknown_fields=True):
    """Shares. ``notebook``: what the study's notebook shows, where that contradicts the claim."""

    clean_accuracy: float
    asr: float
    notebook: str = ""


class DefenseClaim(msgspec.Struct, forbid_unknown_fields=True):
    """``notebook``: what the study's notebooks show, where that contradicts the claim."""

    claim: str
    notebook: str = ""


class Study(msgspec.Struct, forbid_unknown_fields=True):
    """Its attacks, the plainest first, and its defenses, by the names they have here."""

    attack: dict[str, AttackClaim]
    defense: dict[str, DefenseClaim]


@lru_cache(maxsize=1)
def study() -> Study:
    """What ``study.toml`` says. Raises BenchError, which names file and entry."""
    return read(FILE, Study)


def claim(attack: str, defense: str) -> str:
    """The seed study's claim for a cell, as text; empty where it made none."""
    if defense != "none":
        defended = study().defense.get(defense)
        return defended.claim if defended and attack != "none" else ""
    attacked = study().attack.get(attack)
    return f"{attacked.clean_accuracy:.0%} / {attacked.asr:.0%}" if attacked else ""


def notebook(name: str) -> str:
    """What the study's notebooks show of a plugin, where that contradicts its claim."""
    found = study().attack.get(name) or study().defense.get(name)
    return found.notebook if found else ""
