"""A record as one line of JSON, at most 2048 bytes, for the ``records.jsonl`` that is committed.

A line leaves out what is empty, and what its identity says anyway: of the cell what was asked, of
the environment the versions and the machine. Reading puts both back. Seconds are kept to the
millisecond, memory to a tenth of a MiB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.store import schema
from bench.store.schema import BadRecord, StoredCell
from fixtures.errors import BenchError

LIMIT = 2048
CELL = ("dataset", "model", "attack", "defense", "seed")
USUAL = {field.name: field.default for field in msgspec.structs.fields(StoredCell)}
"""What a cell's fields are where a record says nothing of them."""
SAME = ("torch", "torchvision", "scikit-learn", "numpy", "threads", "dtype", "device")
ENVIRONMENT = {**{name: name for name in SAME}, "cpu_capability": "capability"}
"""Of the environment -> what the identity calls it."""
UNASKED: dict[str, Any] = {
    "dataset_params": {}, "model_params": {}, "attack_params": {}, "defense_params": {},
    "clean": None, "defense": "none",
}  # fmt: skip
"""What an identity says where nothing was asked for."""
DIGITS = {"timings": 3, "memory": 1}


def encode(content: Mapping[str, Any], cell: str) -> str:
    """A record, less its details, as a line. Raises BenchError, which names the cell, if too long.

    ``content``: the fields of `bench.store.schema.Stored`. ``cell``: its id.
    """
    said = _said(content["identity"])
    short = {name: value for name, value in content.items() if value != ""}
    short["identity"] = _abridged(content["identity"])
    for field, digits in DIGITS.items():
        short[field] = {name: round(value, digits) for name, value in content[field].items()}
    for field in ("cell", "environment"):
        short[field] = {
            name: value
            for name, value in content[field].items()
            if value not in ({}, "", USUAL.get(name, ""))
            and (name not in said[field] or said[field][name] != value)
        }
    for field in ("memory", "data"):
        if not short[field]:
            del short[field]
    try:
        text = json.dumps(short, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:  # NaN or infinite
        raise BenchError(f"{cell}: its record cannot be written as JSON: {error}") from error
    if (size := len(text.encode())) > LIMIT:
        raise BenchError(f"{cell}: its record is {size} bytes, a line may have {LIMIT}")
    return text


def decode(path: Path, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each record of a file stands, as errors say it, and its fields.

    Raises BadRecord, which names file and line, for one that is cut off, too long or no JSON.
    """
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}"
        if len(line) > LIMIT:
            raise BadRecord(f"{where}: {len(line)} bytes, a line may have {LIMIT}")
        content = schema.parse(line, where)
        if isinstance(content.get("identity"), dict):
            content["identity"] = _whole(content["identity"])
        said = _said(content.get("identity"))
        for field in ("cell", "environment"):
            if isinstance(content.get(field), dict):
                content[field] = said[field] | content[field]
        yield where, content
    if rest:
        raise BadRecord(
            f"{path} line {len(lines) + 1}: cut off before its end; restore the file from a copy"
        )


def _said(identity: Any) -> dict[str, dict[str, Any]]:
    """What an identity says of the cell and of the environment."""
    groups = identity if isinstance(identity, dict) else {}
    asked, versions, machine = (
        group if isinstance(group := groups.get(name), dict) else {}
        for name in ("asked", "versions", "machine")
    )
    known = {**versions, **machine}
    return {
        "cell": {name: asked[name] for name in CELL if name in asked},
        "environment": {n: known[theirs] for n, theirs in ENVIRONMENT.items() if theirs in known},
    }


def _abridged(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity less what it says where nothing was asked for, all of it or none.

    None where it says less than that anyway, as those of older versions do.
    """
    asked = identity.get("asked", {})
    if not asked.keys() >= UNASKED.keys():
        return dict(identity)
    kept = {n: v for n, v in sorted(asked.items()) if n not in UNASKED or v != UNASKED[n]}
    return {**identity, "asked": kept}


def _whole(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity that was abridged; one that names anything empty was not."""
    asked = identity.get("asked")
    if not isinstance(asked, dict) or any(asked.get(n, ...) == v for n, v in UNASKED.items()):
        return identity
    return {**identity, "asked": {**UNASKED, **asked}}
