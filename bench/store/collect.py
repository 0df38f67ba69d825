"""Packs the records of a run into the ``records.jsonl`` of a study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.runtime import files
from bench.store import records
from bench.store.records import LINES, Record
from fixtures.errors import BenchError


def of_run(run: Path) -> list[Record]:
    """What ``run/records/`` holds. Raises BenchError where that is nothing, or one is damaged."""
    paths = sorted((run / "records").glob("*.json"))
    if not paths:
        raise BenchError(f"{run}: no records to collect (expected {run / 'records'}/*.json)")
    return list(map(records.load, paths))


def add(found: Iterable[Record], study: Path) -> list[str]:
    """Add records to ``study/records.jsonl``; returns what was done, in lines.

    A cell that is there already is replaced, whatever made it; all others stay. The file is
    replaced as a whole, or not at all, and two that collect at once wait for each other. Raises
    BenchError for a record that does not fit a line, and where the file that is there cannot be
    read.
    """
    new = {record.cell: record for record in found}
    packed = study / LINES
    files.make_folder(study)
    with files.locked(packed):
        before = records.load_lines(packed) if packed.exists() else []
        merged = {record.cell: record for record in before}
        replaced = len(new.keys() & merged.keys())
        merged |= new
        write(merged.values(), packed)
    return [f"{packed}: {len(merged)} records, {len(new) - replaced} new, {replaced} replaced"]


def write(found: Iterable[Record], packed: Path) -> Path:
    """Write a ``records.jsonl``, sorted by cell, number of clean images and seed.

    On a BenchError it is as it was.
    """
    ordered = sorted(found, key=_place)
    return files.write(packed, "".join(f"{record.line()}\n" for record in ordered))


def _place(record: Record) -> tuple[str, bool, int, int]:
    cell = record.cell
    clean = cell.clean if isinstance(cell.clean, int) else 0  # the default first, "all" last
    return replace(cell, clean=None).name, isinstance(cell.clean, str), clean, cell.seed
