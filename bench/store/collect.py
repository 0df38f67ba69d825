"""Packs the records of a run into the ``records.jsonl`` of a study."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.runtime import files
from bench.spec.cell import Cell
from bench.store import records
from bench.store.records import LINES, Record
from fixtures.errors import BenchError


def collect(run: Path, study: Path) -> list[str]:
    """Add what ``run/records/`` holds to ``study/records.jsonl``; returns what was done, in lines.

    A record of a cell and key that is there replaces that one, all others stay. The file is
    replaced as a whole, or not at all. Raises BenchError where the run holds no records, for one
    that is damaged or does not fit a line, and where the file that is there cannot be read.
    """
    paths = sorted((run / "records").glob("*.json"))
    if not paths:
        raise BenchError(f"{run}: no records to collect (expected {run / 'records'}/*.json)")
    new = [records.load(path) for path in paths]
    packed = study / LINES
    before = records.load_lines(packed) if packed.exists() else []
    merged = {(record.cell, record.key): record for record in before}
    replaced = sum((record.cell, record.key) in merged for record in new)
    merged |= {(record.cell, record.key): record for record in new}
    write(merged.values(), packed)
    said = f"{packed}: {len(merged)} records, {len(new) - replaced} new, {replaced} replaced"
    keys: dict[Cell, int] = {}
    for record in merged.values():
        keys[record.cell] = keys.get(record.cell, 0) + 1
    twice = [record.cell.id for record in new if keys[record.cell] > 1]
    if not twice:
        return [said]
    more = " and others" if len(twice) > 1 else ""
    return [said, f"{len(twice)} cells are there under an older key, too: {twice[0]}{more}"]


def write(found: Iterable[Record], packed: Path) -> Path:
    """Write a ``records.jsonl``, sorted by cell, then seed; on a BenchError it is as it was."""
    ordered = sorted(found, key=_place)
    return files.write(packed, "".join(f"{record.line()}\n" for record in ordered))


def _place(record: Record) -> tuple[str, int, str]:
    return record.cell.id.rpartition("-s")[0], record.cell.seed, record.key
