"""What papers publish of their certificates, to draw beside ours."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.toml import read

FILE = Path(__file__).with_name("proofs.toml")


class Point(msgspec.Struct, forbid_unknown_fields=True):
    """``accuracy``: the share of test images of ``dataset`` that are right, whatever ``changes`` of
    the training set were made, counted in ``unit``."""

    dataset: str
    title: str
    unit: str
    changes: int
    accuracy: float


class Points(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    points: list[Point]


@lru_cache(maxsize=1)
def points() -> list[Point]:
    """What ``proofs.toml`` says. Raises BenchError, which names file and entry."""
    return read(FILE, Points).points
