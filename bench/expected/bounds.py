"""A bound on a metric, as files of expectations write it: ``asr = "<= 0.03"``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.spec.metrics import METRICS
from fixtures.errors import BenchError

Texts = dict[str, str]
"""Metric -> its bound as it is written."""


@dataclass(frozen=True)
class Bound:
    """``metric`` must be at least (``>=``) or at most (``<=``) ``limit``, shares as shares."""

    metric: str
    direction: str
    limit: float

    @classmethod
    def of(cls, metric: str, text: str) -> Bound:
        """From what is written. Raises BenchError for what is no bound."""
        match = re.fullmatch(r"(>=|<=)\s*(\d+(?:\.\d+)?)", text)
        if match is None:
            raise BenchError(f'expected ">= 0.9" or the like, got "{text}"')
        return cls(metric, match[1], float(match[2]))

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.direction == ">=" else value <= self.limit

    def __str__(self) -> str:
        """``>= 99.00 %``."""
        unit = " %" if METRICS[self.metric].unit == "%" else ""
        return f"{self.direction} {METRICS[self.metric].show(self.limit)}{unit}"


def parse(path: Path, entry: str, texts: Mapping[str, str]) -> list[Bound]:
    """The bounds of an entry. Raises BenchError that names file, entry and metric."""
    among(path, entry, METRICS, texts)
    found = []
    for metric, text in texts.items():
        try:
            found.append(Bound.of(metric, text))
        except BenchError as error:
            raise BenchError(f"{path.name}: {entry}.{metric}: {error}") from None
    return found


def among(path: Path, entry: str, known: Iterable[str], names: Iterable[str]) -> None:
    """Raises BenchError, which names file and entry, for a name that is not known."""
    allowed = list(known)
    for name in names:
        if name not in allowed:
            raise BenchError(f"{path.name}: {entry}.{name}: unknown; known: {', '.join(allowed)}")
