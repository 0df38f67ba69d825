"""Ranks: what the data cannot tell apart shares one.

Of rows in the order of their means, two neighbours share a rank when the interval of their
difference, paired by seed, holds zero. So does a chain of such neighbours: its first and last may
differ by more, but nothing between them says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from bench.analysis.differences import apart
from bench.analysis.seedwise import BySeed, mean
from bench.analysis.squares import EMPTY, Row, Square, Table

Ranked = dict[str, BySeed]
"""What a row is ranked by, for each cell that it is the mean of, such as an attack."""


SHARED = "What differences paired by seed cannot tell apart shares a rank."


@dataclass(frozen=True)
class RankedRow:
    """A row of a table, what a page filters it by, and what decides its rank."""

    row: Row
    tags: dict[str, str]
    ranked: Ranked


def ranked(title: str, rows: Sequence[RankedRow], by: str, also: str = "") -> Table:
    """Highest first; whoever has no figure in column ``by`` comes last, without a rank.

    A column that is empty in every row is left out. ``also``: a further sentence of its note.
    """
    empty = {name for name in rows[0].row if not any(one.row[name].text for one in rows)}
    measured = [one for one in rows if one.row[by].value is not None]
    measured.sort(key=lambda one: -float(one.row[by].value or 0.0))
    places = [Square(shown(rank), rank[0]) for rank in ranks([one.ranked for one in measured])]
    others = [one for one in rows if one.row[by].value is None]
    every = [*zip(places, measured, strict=True), *((EMPTY, one) for one in others)]
    return Table(
        title,
        [
            {"rank": rank, **{n: f for n, f in one.row.items() if n not in empty}}
            for rank, one in every
        ],
        [one.tags for _, one in every],
        f"Ranked by {by}. {SHARED} {also}".strip(),
    )


def ranks(rows: Sequence[Ranked]) -> list[tuple[int, int]]:
    """The first and last rank of each row, best first: ``(1, 1), (2, 3), (2, 3)``."""
    chain, number = [0] * len(rows), 0
    for at, (above, below) in enumerate(pairwise(rows), start=1):
        number += told_apart(above, below)
        chain[at] = number
    found: list[tuple[int, int]] = []
    for _, some in groupby(chain):
        members = len(list(some))
        found += [(len(found) + 1, len(found) + members)] * members
    return found


def told_apart(first: Ranked, second: Ranked) -> bool:
    """In the mean over the cells that both have."""
    both = [name for name in first if name in second]
    return apart(mean([first[name] for name in both]), mean([second[name] for name in both]))


def shown(rank: tuple[int, int]) -> str:
    """``1``, or ``2-3`` where it is shared."""
    first, last = rank
    return str(first) if first == last else f"{first}-{last}"
