"""By data set: the gates its cells must hold, what a metric may fall back by, why a defense fails.

``<data set>.toml`` says it, ``defaults.toml`` what holds where there is no such file or where it
does not know a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.toml import read
from bench.spec.cell import Cell, Flavour
from bench.spec.metrics import METRICS
from fixtures.errors import BenchError

FOLDER = Path(__file__).parent
"""Where the files by data set are."""
DEFAULTS = FOLDER / "defaults.toml"


@dataclass(frozen=True)
class Bound:
    """``metric`` must be at least (``>=``) or at most (``<=``) ``limit``."""

    metric: str
    direction: str
    limit: float


class Known(msgspec.Struct, forbid_unknown_fields=True):
    """The plugins that a data set's file speaks of: what it gives no gate has none."""

    models: list[str]
    attacks: list[str]
    defenses: list[str]


class Expectations(msgspec.Struct, forbid_unknown_fields=True):
    """Of one data set.

    ``gates``: model -> attack -> defense -> metric -> ``">= 0.9"``. ``tolerance``: metric -> what
    its mean may fall back by, where that differs from the default. ``remarks``: model -> defense ->
    attack -> why the defense fails there by its nature, in one clause.
    """

    known: Known
    gates: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    tolerance: dict[str, float] = {}
    remarks: dict[str, dict[str, dict[str, str]]] = {}

    def covers(self, cell: Cell) -> bool:
        """Whether model, attack and defense are all known here."""
        known = self.known
        return (
            cell.model in known.models
            and cell.attack in known.attacks
            and cell.defense in known.defenses
        )


class Defaults(msgspec.Struct, forbid_unknown_fields=True):
    """``bounds``: by what a cell is judged by -> metric -> ``">= 0.5"``. ``tolerance``: metric ->
    what its mean may fall back by.
    """

    bounds: dict[Flavour, dict[str, str]]
    tolerance: dict[str, float]


@lru_cache(maxsize=32)
def expectations(path: Path) -> Expectations | None:
    """What a file says; None where there is none. Raises BenchError, which names file and entry."""
    if not path.exists():
        return None
    found = read(path, Expectations)
    known, models = found.known, set(found.known.models)
    _among(path, "gates", models, found.gates)
    for model, by_attack in found.gates.items():
        _among(path, f"gates.{model}", known.attacks, by_attack)
        for attack, by_defense in by_attack.items():
            _among(path, f"gates.{model}.{attack}", known.defenses, by_defense)
            for defense, texts in by_defense.items():
                list(_bounds(path, f"gates.{model}.{attack}.{defense}", texts))
    _among(path, "remarks", models, found.remarks)
    for model, defended in found.remarks.items():
        _among(path, f"remarks.{model}", known.defenses, defended)
        for defense, reasons in defended.items():
            _among(path, f"remarks.{model}.{defense}", known.attacks, reasons)
    _check_tolerance(path, found.tolerance)
    return found


@lru_cache(maxsize=8)
def defaults(path: Path) -> Defaults:
    """What ``defaults.toml`` says. Raises BenchError, which names file and entry."""
    found = read(path, Defaults)
    for flavour, texts in found.bounds.items():
        list(_bounds(path, f"bounds.{flavour}", texts))
    _check_tolerance(path, found.tolerance)
    return found


def of(dataset: str) -> Expectations | None:
    """What is expected on a data set; None where nothing was written down. Raises BenchError."""
    return expectations(FOLDER / f"{dataset}.toml")


def is_known(cell: Cell) -> bool:
    """Whether the data set's file speaks of the cell's plugins. Raises BenchError."""
    found = of(cell.dataset)
    return found is not None and found.covers(cell)


def gates(cell: Cell) -> list[Bound]:
    """What the data set's file asks of a cell that it knows. Raises BenchError."""
    found = of(cell.dataset)
    path = FOLDER / f"{cell.dataset}.toml"
    by_defense = found.gates.get(cell.model, {}).get(cell.attack, {}) if found else {}
    return list(_bounds(path, cell.id, by_defense.get(cell.defense, {})))


def default_bounds(flavour: Flavour) -> list[Bound]:
    """What is asked of a cell that no file knows. Raises BenchError."""
    return list(_bounds(DEFAULTS, flavour, defaults(DEFAULTS).bounds.get(flavour, {})))


def tolerance(dataset: str) -> dict[str, float]:
    """Metric -> what its mean may fall back by, as a share. Raises BenchError."""
    found = of(dataset)
    return defaults(DEFAULTS).tolerance | (found.tolerance if found else {})


def remark(cell: Cell) -> str:
    """Why a defense fails here by its nature, in one clause; empty where nothing was written.

    Raises BenchError.
    """
    found = of(cell.dataset)
    by_defense = found.remarks.get(cell.model, {}) if found else {}
    return by_defense.get(cell.defense, {}).get(cell.attack, "")


def _bounds(path: Path, entry: str, texts: Mapping[str, str]) -> Iterator[Bound]:
    for metric, text in texts.items():
        match = re.fullmatch(r"(>=|<=)\s*(\d+(?:\.\d+)?)", text)
        if match is None:
            raise BenchError(
                f'{path.name}: {entry}.{metric}: expected ">= 0.9" or the like, got "{text}"'
            )
        _among(path, entry, METRICS, [metric])
        yield Bound(metric, match[1], float(match[2]))


def _among(path: Path, entry: str, known: Iterable[str], names: Iterable[str]) -> None:
    for name in names:
        if name not in (allowed := list(known)):
            raise BenchError(f"{path.name}: {entry}.{name}: unknown; known: {', '.join(allowed)}")


def _check_tolerance(path: Path, found: Mapping[str, float]) -> None:
    _among(path, "tolerance", METRICS, found)
    for name, value in found.items():
        if value < 0:
            raise BenchError(f"{path.name}: tolerance.{name}: {value} is below 0")
