"""By data set: what is claimed of its cells, what a metric may fall back by, why a defense fails.

``<data set>.toml`` says it, ``defaults.toml`` what holds where there is no such file or where it
does not know a plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.bounds import Bound, Texts, among, parse
from bench.expected.claims import Claim, check
from bench.expected.toml import read
from bench.spec.cell import Cell, Flavour
from bench.spec.metrics import METRICS
from fixtures.errors import BenchError

FOLDER = Path(__file__).parent
"""Where the files by data set are."""
DEFAULTS = FOLDER / "defaults.toml"


class Known(msgspec.Struct, forbid_unknown_fields=True):
    """The plugins that a data set's file speaks of: their cells have no default bounds."""

    models: list[str]
    attacks: list[str]
    defenses: list[str]


class Expectations(msgspec.Struct, forbid_unknown_fields=True):
    """Of one data set.

    ``tolerance``: metric -> what its mean may fall back by, where that differs from the default.
    ``remarks``: model -> defense -> attack -> why the defense, as it is built here, fails there, in
    one clause.
    """

    known: Known
    claims: list[Claim] = []
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

    bounds: dict[Flavour, Texts]
    tolerance: dict[str, float]


@lru_cache(maxsize=32)
def expectations(path: Path) -> Expectations | None:
    """What a file says; None where there is none. Raises BenchError, which names file and entry."""
    if not path.exists():
        return None
    found = read(path, Expectations)
    known, models = found.known, set(found.known.models)
    among(path, "claims", models, [claim.model for claim in found.claims])
    check(path, found.claims, known.attacks, known.defenses)
    among(path, "remarks", models, found.remarks)
    for model, defended in found.remarks.items():
        among(path, f"remarks.{model}", known.defenses, defended)
        for defense, reasons in defended.items():
            among(path, f"remarks.{model}.{defense}", known.attacks, reasons)
    _check_tolerance(path, found.tolerance)
    return found


@lru_cache(maxsize=8)
def defaults(path: Path) -> Defaults:
    """What ``defaults.toml`` says. Raises BenchError, which names file and entry."""
    found = read(path, Defaults)
    for flavour, texts in found.bounds.items():
        parse(path, f"bounds.{flavour}", texts)
    _check_tolerance(path, found.tolerance)
    return found


def of(dataset: str) -> Expectations | None:
    """What is expected on a data set; None where nothing was written down. Raises BenchError."""
    return expectations(FOLDER / f"{dataset}.toml")


def is_known(cell: Cell) -> bool:
    """Whether the data set's file speaks of the cell's plugins. Raises BenchError."""
    found = of(cell.dataset)
    return found is not None and found.covers(cell)


def claims(dataset: str) -> list[Claim]:
    """What is claimed of a data set's cells, in the order of its file. Raises BenchError."""
    found = of(dataset)
    return found.claims if found else []


def default_bounds(flavour: Flavour) -> list[Bound]:
    """What is asked of a cell that no file knows. Raises BenchError."""
    return parse(DEFAULTS, f"bounds.{flavour}", defaults(DEFAULTS).bounds.get(flavour, {}))


def tolerance(dataset: str) -> dict[str, float]:
    """Metric -> what its mean may fall back by, as a share. Raises BenchError."""
    found = of(dataset)
    return defaults(DEFAULTS).tolerance | (found.tolerance if found else {})


def remark(cell: Cell) -> str:
    """Why a defense, as it is built here, fails on an attack; empty where nothing was written.

    Raises BenchError.
    """
    found = of(cell.dataset)
    by_defense = found.remarks.get(cell.model, {}) if found else {}
    return by_defense.get(cell.defense, {}).get(cell.attack, "")


def _check_tolerance(path: Path, found: Mapping[str, float]) -> None:
    among(path, "tolerance", METRICS, found)
    for name, value in found.items():
        if value < 0:
            raise BenchError(f"{path.name}: tolerance.{name}: {value} is below 0")
