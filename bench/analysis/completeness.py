"""How many cells a table has of those that it should have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from bench.analysis.series import Measured, Series
from bench.spec.cell import Cell, Kind

NAMES: dict[Kind, str] = {
    "attack": "attacks",
    "detection": "detection",
    "repair": "repair",
    "training": "training",
}
"""Kind of cell -> name of its table and files."""


def lacking(measured: Measured, kind: Kind, asked: Iterable[Cell] = ()) -> list[str]:
    """Ids of the cells that a table should have and has not.

    ``asked``: the cells that a run was to measure. Without it, the cross of all that occurs:
    every attack with every defense of the kind and every seed. A cell whose defense is not
    applicable is there.
    """
    wanted = [cell for cell in asked if cell.kind == kind]
    if not wanted:
        return _lacking_of_cross(measured, kind)
    present = {record.cell.id for record in measured.records}
    return [cell.id for cell in wanted if cell.id not in present]


def complete(measured: Measured, kind: Kind, asked: Iterable[Cell] = ()) -> str:
    """How many cells a table lacks of those it should have, as a sentence."""
    have = len(
        {(s.name, r.cell.seed) for s in measured.series if s.kind == kind for r in s.records}
    )
    missing = lacking(measured, kind, asked)
    whole = f"{NAMES[kind].capitalize()}: {have} of {have + len(missing)} cells"
    if not missing:
        return f"{whole}, none lacking."
    named = ", ".join(missing[:5]) + (" and others" if len(missing) > 5 else "")
    return f"{whole}; {len(missing)} lacking: {named}."


def _lacking_of_cross(measured: Measured, kind: Kind) -> list[str]:
    studies: dict[tuple[str, str], list[Series]] = {}
    for series in measured.series:
        studies.setdefault(series.study, []).append(series)
    missing = []
    for some in studies.values():
        present = {(s.attack, s.defense, r.cell.seed) for s in some for r in s.records}
        attacks = {s.attack: s.cell for s in some}
        defenses = {s.defense: s.cell for s in some if s.kind == kind}
        seeds = dict.fromkeys(r.cell.seed for s in some for r in s.records)
        missing += [
            _crossed(attacks[attack], defenses[defense], seed).id
            for attack in attacks
            for defense in defenses
            for seed in seeds
            if (attack, defense, seed) not in present
        ]
    return missing


def _crossed(attacked: Cell, defended: Cell, seed: int) -> Cell:
    return dataclasses.replace(
        attacked,
        defense=defended.defense,
        defense_params=defended.defense_params,
        clean=defended.clean,
        seed=seed,
    )
