"""What the seed study claims of attacks and defenses, and remarks on cells that fail."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.runtime import files
from bench.spec.cell import Cell

FOLDER = Path(__file__).parents[1] / "report"


def claim(attack: str, defense: str) -> str:
    """The seed study's claim for a cell, as text; empty where it made none."""
    claims = study()
    if defense != "none":
        found = claims["defense"].get(defense, {}) if attack != "none" else {}
        return str(found.get("claim", ""))
    found = claims["attack"].get(attack)
    return f"{found['clean_accuracy']:.0%} / {found['asr']:.0%}" if found else ""


def notebook(name: str) -> str:
    """What the study's notebooks show of a plugin, where that contradicts its claim."""
    claims = study()
    found = claims["attack"].get(name) or claims["defense"].get(name) or {}
    return str(found.get("notebook", ""))


def remark(cell: Cell) -> str:
    """Why a defense fails here by its nature, in one clause; empty where nothing was written."""
    found: Any = _remarks()
    for name in (cell.dataset, cell.model, cell.defense, cell.attack):
        found = found.get(name, {})
    return str(found or "")


@lru_cache(maxsize=1)
def study() -> dict[str, Any]:
    """``attack`` and ``defense``: name -> claims, in the study's order."""
    return files.read_toml(FOLDER / "claims.toml")


@lru_cache(maxsize=1)
def _remarks() -> dict[str, Any]:
    return files.read_toml(FOLDER / "remarks.toml")
