"""What others publish of the methods here, to hold our figures against."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from bench.expected.toml import read
from bench.spec.metrics import METRICS
from fixtures.errors import BenchError

FILE = Path(__file__).with_name("published.toml")


class Figures(msgspec.Struct, forbid_unknown_fields=True):
    """``metrics``: by our names, shares from 0 to 1. ``says``: in words, where there are no such
    figures. ``why``: what explains how ours differ. ``name``: theirs, where it is another one."""

    defense: str
    metrics: dict[str, float] = {}
    says: str = ""
    why: str = ""
    name: str = ""


class Setting(msgspec.Struct, forbid_unknown_fields=True):
    """``published``: data, network, poison, clean images and source of what was published; below it
    the nearest cells that run here."""

    title: str
    published: str
    dataset: str
    model: str
    attack: str
    figures: list[Figures]
    model_params: dict[str, Any] = {}
    attack_params: dict[str, Any] = {}


class Published(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    settings: list[Setting]


@lru_cache(maxsize=1)
def published() -> list[Setting]:
    """What ``published.toml`` says. Raises BenchError, which names file and entry."""
    found = read(FILE, Published).settings
    for setting in found:
        for one in setting.figures:
            unknown = [name for name in one.metrics if name not in METRICS]
            if unknown or not (one.metrics or one.says):
                what = f"no metric {', '.join(unknown)}" if unknown else "neither metrics nor words"
                raise BenchError(f"{FILE.name}: {setting.title}: {one.defense}: {what}")
    return found
