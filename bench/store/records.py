"""One JSON file for each cell that was run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.runtime import files
from bench.spec.cell import Cell, Kind
from bench.spec.identity import Identity, without
from bench.spec.identity import key as key_of
from fixtures.errors import BenchError

SCHEMA = 4
READABLE = (2, 3, SCHEMA)
POISON = ("poisoned_samples", "training_samples", "target", "target_samples")


class BadRecord(BenchError):
    """A record that is damaged, or of another schema."""


@dataclass
class Record:
    """What was measured in one cell.

    ``identity``: everything that shaped it, ``key`` the hash of that. ``metrics``: by the names in
    `bench.spec.metrics`. ``timings`` in seconds and ``memory`` in MiB, by phase, of the real work,
    also where it was done in an earlier run. ``victim``: whether the process that measured
    had trained it or loaded it. ``poison``: how many samples were poisoned, by the names in
    `bench.judge.common.poison_counts`. ``not_applicable``: why the defense has no answer for this
    victim, where it has none; there are no metrics then. ``attested``: the key under which it was
    measured, where equal figures of newer code carried it over. ``command``: what made or last
    asked for it. ``details``: what figures are drawn from, and the defense's own report.
    ``reused``: it came from the cache. Whether it meets its gates is judged when it is read.
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
    not_applicable: str = ""
    attested: str = ""
    command: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    kind: Kind = "attack"
    schema: int = SCHEMA
    reused: bool = False

    @property
    def series(self) -> str:
        """The key of all but the seed: only records of one series may be averaged."""
        return key_of(without(self.identity, "seed"))

    def path(self, results: Path) -> Path:
        return results / "records" / f"{self.cell.id}.json"

    def save(self, path: Path) -> Path:
        """Write the record as JSON, atomically, with a checksum over all of it."""
        content = {
            "schema": self.schema,
            "kind": self.kind,
            "cell": self.cell.to_json(),
            "key": self.key,
            "identity": self.identity,
            "metrics": self.metrics,
            "timings": self.timings,
            "memory": self.memory,
            "environment": self.environment,
            "victim": self.victim,
            "poison": self.poison,
            "not_applicable": self.not_applicable,
            "attested": self.attested,
            "command": self.command,
            "details": self.details,
        }
        content = json.loads(json.dumps(content, allow_nan=False))  # keys as text, as in the file
        content["sha256"] = checksum(content)
        # Thousands of points would fill thousands of lines: the details stand on one.
        details = json.dumps(content.pop("details"), allow_nan=False)
        rest = json.dumps(content, indent=1, allow_nan=False)
        return files.write(path, f'{rest[:-2]},\n "details": {details}\n}}\n')


def load(path: Path) -> Record:
    """Read a record. Raises BadRecord, a line that names the file, if it is not as it was saved."""
    try:
        content = json.loads(path.read_text())
        if content["schema"] not in READABLE:
            raise BadRecord(f"{path}: schema {content['schema']}, this version reads {SCHEMA}")
        if content.pop("sha256") != checksum(content):
            raise BadRecord(f"{path}: its checksum does not match, it was altered or damaged")
        if content["schema"] < SCHEMA:
            content |= {"key": content.pop("identity"), "identity": content.pop("shaped_by")}
            content["schema"] = SCHEMA
            content.pop("gates")
            content["poison"] = {
                name: content["details"].pop(name) for name in POISON if name in content["details"]
            }
        return Record(cell=Cell(**content.pop("cell")), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"{path}: not a whole record ({type(error).__name__}: {error})") from error


def checksum(content: dict[str, Any]) -> str:
    """Of all that a record's file holds but the checksum itself."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_all(results: Path) -> list[Record]:
    """Every record under a results folder, by cell id. Raises BenchError where there is none."""
    paths = sorted((results / "records").glob("*.json"))
    if not paths:
        raise BenchError(f"{results}: no records (expected {results / 'records'}/*.json)")
    return [load(path) for path in paths]
