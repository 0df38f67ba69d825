"""Claims: what was said of cells before they were measured here. One may prove wrong.

They stand in the file of a data set, ``[[claims]]``: who says it, of which cells, and the bounds
that say when it is met. A claim that is not met is shown, and fails nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.expected.bounds import Bound, Texts, among, parse
from fixtures.errors import BenchError


class Claim(msgspec.Struct, forbid_unknown_fields=True):
    """Every one of ``attacks`` under every one of ``defenses`` keeps ``bounds``.

    ``source``: who says it, with the place. ``defenses``: ``"none"`` for an attack's own figures.
    ``level``: of the seed study; 0 for what it does not say. ``clean``: images of each class that
    the defender has; None for all there are.
    """

    source: str
    attacks: list[str]
    defenses: list[str]
    bounds: Texts
    model: str = "simplecnn"
    clean: int | None = None
    level: int = 0

    def cells(self) -> Iterator[tuple[str, str]]:
        """Attack and defense of each cell that it is about."""
        return ((attack, defense) for defense in self.defenses for attack in self.attacks)

    def limits(self) -> list[Bound]:
        """Its bounds, one for each metric."""
        return [Bound.of(metric, text) for metric, text in self.bounds.items()]


def check(path: Path, claims: list[Claim], attacks: list[str], defenses: list[str]) -> None:
    """Raises BenchError, which names file and entry, for a claim that cannot be judged."""
    for number, claim in enumerate(claims, start=1):
        entry = f"claims {number} ({claim.source})"
        if not (claim.source and claim.attacks and claim.defenses and claim.bounds):
            raise BenchError(f"{path.name}: {entry}: source, attacks, defenses or bounds are empty")
        among(path, f"{entry}.attacks", attacks, claim.attacks)
        among(path, f"{entry}.defenses", defenses, claim.defenses)
        parse(path, f"{entry}.bounds", claim.bounds)
        if claim.clean is not None and claim.clean < 1:
            raise BenchError(f"{path.name}: {entry}.clean: {claim.clean} is below 1")
        if claim.clean is not None and "none" in claim.defenses:
            raise BenchError(f"{path.name}: {entry}.clean: an attack's own figures need no images")
