"""Records of one study that were made in several places, put together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.identity import differences
from bench.store import collect, records
from bench.store.records import LINES, Record
from fixtures.errors import BenchError


def merge(folders: Sequence[Path], study: Path) -> list[str]:
    """Write all records of some folders to ``study/records.jsonl``; what was done, in lines.

    What is there already is one of the folders. A cell that several have must be the same: of
    equal identity, with equal figures. Raises BenchError, which names cell and difference, and
    writes nothing then.
    """
    packed = study / LINES
    merged: dict[Cell, tuple[Record, Path]] = {}
    twice = 0
    with files.locked(packed) if study.exists() else nullcontext():  # a new one appears at the end
        there = [study] if records.holds_records(study) and study not in folders else []
        for folder in (*there, *folders):
            for record in records.load_all(folder):
                if record.cell in merged:
                    same(*merged[record.cell], record, folder)
                    twice += 1
                else:
                    merged[record.cell] = record, folder
        files.make_folder(study)
        collect.write([record for record, _ in merged.values()], packed)
    return [f"{packed}: {len(merged)} records of {len(folders)} folders, {twice} of them twice"]


def same(one: Record, here: Path, other: Record, there: Path) -> None:
    """Raise BenchError, one line, where two records of one cell are of two runs."""
    where = f"{one.cell.id}: {here} and {there}"
    if one.key != other.key:
        found = differences(one.identity, other.identity)
        raise BenchError(f"{where} are of two identities: {'; '.join(found[:3])}")
    for name in sorted({*one.metrics, *other.metrics}):
        mine, yours = one.metrics.get(name), other.metrics.get(name)
        if mine != yours:
            raise BenchError(
                f"{where} are of one identity and differ: {name} {_shown(mine)} and {_shown(yours)}"
            )


def _shown(value: float | None) -> str:
    return "none" if value is None else repr(value)
