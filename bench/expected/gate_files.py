"""Regression gates: bounds that keep what was measured; a run that misses one fails.

``gates/<data set>.toml`` holds them. It is made by ``python -m bench gates`` from records, by the
rule in `bench.analysis.proposals`, and by nobody's hand.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from bench.expected.bounds import Bound, Texts, parse
from bench.expected.toml import read
from fixtures.errors import BenchError

FOLDER = Path(__file__).parent / "gates"
"""Where the files by data set are."""


class Gates(msgspec.Struct, forbid_unknown_fields=True):
    """``cells``: model -> attack -> defense -> metric -> ``">= 0.9"``. ``clean``: images of each
    class that the defender has; None for all there are, and for an attack's own figures.
    """

    cells: dict[str, dict[str, dict[str, Texts]]]
    clean: int | None = None


class GateFile(msgspec.Struct, forbid_unknown_fields=True):
    """One entry for each number of clean images."""

    gates: list[Gates]


def gates(dataset: str, model: str, attack: str, defense: str, clean: int | None) -> list[Bound]:
    """The gates of a cell with plugins at their defaults. Raises BenchError."""
    return _read(FOLDER / f"{dataset}.toml").get((model, attack, defense, clean), [])


@lru_cache(maxsize=32)
def _read(path: Path) -> dict[tuple[str, str, str, int | None], list[Bound]]:
    if not path.exists():
        return {}
    found: dict[tuple[str, str, str, int | None], list[Bound]] = {}
    for entry in read(path, GateFile).gates:
        for model, by_attack in entry.cells.items():
            for attack, by_defense in by_attack.items():
                for defense, texts in by_defense.items():
                    name = f"{model}.{attack}.{defense}"
                    cell = (model, attack, defense, entry.clean)
                    if cell in found:
                        raise BenchError(f"{path.name}: {name}: stands there twice")
                    found[cell] = parse(path, name, texts)
    return found
