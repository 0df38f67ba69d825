"""What was measured in a cell, and its two forms on disk.

A run writes one JSON for each cell, ``records/<cell id>.json``, with all that figures are drawn
from. What is committed is ``records.jsonl``: a line for each record, without that.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.runtime import files
from bench.spec.cell import Cell, Kind
from bench.spec.identity import Identity, without
from bench.spec.identity import key as key_of
from bench.store import lines, schema
from bench.store.schema import BadRecord as BadRecord
from fixtures.errors import BenchError

LINES = "records.jsonl"
POISON = ("poisoned_samples", "training_samples", "target", "target_samples")
"""What a record must say of the poison, see `bench.judge.common.poison_counts`."""


@dataclass
class Record:
    """What was measured in one cell.

    ``identity``: everything that shaped it, ``key`` the hash of that. ``metrics``: by the names in
    `bench.spec.metrics`. ``timings`` in seconds and ``memory`` in MiB, by phase, of the real work,
    also where it was done in an earlier run. ``victim``: whether the process that measured
    had trained it or loaded it. ``poison``: how many samples were poisoned, by the names in
    `bench.judge.common.poison_counts`. ``data``: the sizes of the data set, by the names in
    `bench.judge.common.split_counts`. ``not_applicable``: why the defense has no answer for this
    victim, where it has none; there are no metrics then. ``attested``: the key under which it was
    measured, where equal figures of newer code carried it over. ``command``: what made or last
    asked for it. ``details``: what figures are drawn from, and the defense's own report.
    ``reused``: it came from the cache; that is not kept. Whether it meets its gates is judged when
    it is read.
    """

    cell: Cell
    key: str
    metrics: dict[str, float]
    timings: dict[str, float]
    environment: dict[str, Any]
    identity: Identity = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    victim: Literal["trained", "loaded", ""] = ""
    poison: dict[str, int] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)
    not_applicable: str = ""
    attested: str = ""
    command: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    kind: Kind = "attack"
    reused: bool = False

    @property
    def series(self) -> str:
        """The key of all but the seed: only records of one series may be averaged."""
        return key_of(without(self.identity, "seed"))

    @property
    def clean(self) -> int | None:
        """Images of each class that the defender had; None for all there are, or no defender."""
        if self.cell.defense == "none":
            return None
        found: int | None = self.identity.get("asked", {}).get("clean")
        return found

    def path(self, results: Path) -> Path:
        return path_of(self.cell, results)

    def save(self, path: Path) -> Path:
        """Write the record as JSON, atomically, with a checksum over all of it.

        Raises BenchError where the file cannot be written, ValueError for what is no JSON.
        """
        content = _content(self) | {"details": self.details}
        content = json.loads(json.dumps(content, allow_nan=False))  # keys as text, as in the file
        content["sha256"] = checksum(content)
        # Thousands of points would fill thousands of lines: the details stand on one.
        details = json.dumps(content.pop("details"), allow_nan=False)
        rest = json.dumps(content, indent=1, allow_nan=False)
        return files.write(path, f'{rest[:-2]},\n "details": {details}\n}}\n')

    def line(self) -> str:
        """The record, less its details, as a line of ``records.jsonl``.

        Raises BenchError, which names the cell, for one of more than 2048 bytes.
        """
        return lines.encode(_content(self), self.cell.id)


def path_of(cell: Cell, results: Path) -> Path:
    """Where a run keeps the record of a cell."""
    return results / "records" / f"{cell.id}.json"


def _content(record: Record) -> dict[str, Any]:
    """All of it but its details."""
    return {
        "schema": schema.SCHEMA,
        "kind": record.kind,
        "cell": record.cell.to_json(),
        "key": record.key,
        "identity": record.identity,
        "metrics": record.metrics,
        "timings": record.timings,
        "memory": record.memory,
        "environment": record.environment,
        "victim": record.victim,
        "poison": record.poison,
        "data": record.data,
        "not_applicable": record.not_applicable,
        "attested": record.attested,
        "command": record.command,
    }


def _record(content: dict[str, Any], where: str) -> Record:
    checked = schema.check(content, where)
    if checked.key != key_of(checked.identity):
        raise BadRecord(f"{where}: key: {checked.key} is not that of its identity")
    if lacking := [name for name in POISON if name not in checked.poison]:
        raise BadRecord(f"{where}: poison.{lacking[0]}: missing")
    stored = msgspec.structs.asdict(checked)
    del stored["schema"]
    cell = Cell(**msgspec.structs.asdict(stored.pop("cell")))
    return Record(cell=cell, **stored)


def load(path: Path) -> Record:
    """Read one JSON. Raises BadRecord, a line that names file and field, if it is not as saved."""
    content = schema.parse(_read(path), str(path))
    if content.pop("sha256", "") != checksum(content):
        raise BadRecord(f"{path}: its checksum does not match, it was altered or damaged")
    return _record(content, str(path))


def checksum(content: dict[str, Any]) -> str:
    """Of all that a record's file holds but the checksum itself."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_lines(path: Path) -> list[Record]:
    """Read a ``records.jsonl``. Raises BadRecord, which names file, line and field.

    That is for a line that is cut off, longer than 2048 bytes or no record of this schema, and for
    a cell that stands there twice.
    """
    found: list[Record] = []
    seen: dict[Cell, str] = {}
    for where, content in lines.decode(path, _read(path)):
        record = _record(content, where)
        first = seen.setdefault(record.cell, where)
        if first != where:
            raise BadRecord(f"{where}: {record.cell.id} stands twice: {first}")
        found.append(record)
    return found


def load_all(results: Path) -> list[Record]:
    """Every record of a results folder: what its ``records.jsonl`` holds, else its ``records/``.

    Where both are there, ``records/`` only adds the details of records that ``records.jsonl``
    holds, too. Raises BenchError where there is no record, or where ``records/`` holds another: the
    two are of different runs.
    """
    paths = sorted((results / "records").glob("*.json"))
    packed = results / LINES
    if not packed.exists():
        if not paths:
            raise BenchError(f"{results}: no records (expected {LINES} or records/*.json)")
        return [load(path) for path in paths]
    found = load_lines(packed)
    if not found:
        raise BenchError(f"{packed}: no records, the file is empty")
    of = {(record.cell, record.key): record for record in found}
    for path in paths:
        record = load(path)
        if (record.cell, record.key) not in of:
            raise BenchError(
                f"{path}: not in {packed}, so of another run; add it by "
                f"`python -m bench collect {results} --to {results}`, or move one of them away"
            )
        of[record.cell, record.key].details = record.details
    return found


def holds_records(results: Path) -> bool:
    """Whether `load_all` would find a record there."""
    return (results / LINES).exists() or any((results / "records").glob("*.json"))


def studies(root: Path) -> list[Path]:
    """The folders of ``root`` that hold records, sorted; ``latest``, of the last run, only where
    there is no other."""
    found = [folder for folder in sorted(root.glob("*")) if holds_records(folder)]
    return [folder for folder in found if folder.name != "latest"] or found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: {error.strerror}") from error
