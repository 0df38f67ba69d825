"""What a record holds on disk, field by field, and what is said of one that does not."""

from __future__ import annotations

import re
import sys
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from bench.spec.budget import Budget
from bench.spec.cell import Kind, Split
from fixtures.errors import BenchError

SCHEMA = 4


class BadRecord(BenchError):
    """A record that is damaged, or of another schema."""


class StoredCell(msgspec.Struct, forbid_unknown_fields=True):
    """A `bench.spec.cell.Cell`; parameters that were not given may be left out."""

    dataset: str
    model: str
    attack: str
    defense: str
    seed: int
    attack_params: dict[str, Any] = {}
    defense_params: dict[str, Any] = {}
    model_params: dict[str, Any] = {}
    dataset_params: dict[str, Any] = {}
    recipe: str = ""
    recipe_params: dict[str, Any] = {}
    clean: Budget | None = None
    split: Split = "test"


class Stored(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A `bench.store.records.Record`; what is empty may be left out."""

    schema: int
    kind: Kind
    cell: StoredCell
    key: str
    identity: dict[str, dict[str, Any]]
    metrics: dict[str, float]
    timings: dict[str, float]
    memory: dict[str, float] = {}
    environment: dict[str, Any]
    victim: Literal["trained", "loaded", ""] = ""
    poison: dict[str, int]
    data: dict[str, int] = {}
    not_applicable: str = ""
    attested: str = ""
    command: str = ""
    details: dict[str, Any] = {}


def parse(data: bytes, where: str) -> dict[str, Any]:
    """JSON of one record. Raises BadRecord, which begins with ``where``, for anything else."""
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"{where}: no JSON, or not all of it: {error}") from error
    if not isinstance(content, dict):
        raise BadRecord(f"{where}: expected an object, got {_shown(content)}")
    schema = content.get("schema")
    if schema != SCHEMA:
        raise BadRecord(f"{where}: schema {_shown(schema)}, this version reads {SCHEMA}")
    return {name: _shared(value) for name, value in content.items()}


def _shared(value: Any) -> Any:
    """Equal texts as one object: thousands of records repeat the same hashes and versions."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {name: _shared(inner) for name, inner in value.items()}
    return value


def check(content: dict[str, Any], where: str) -> Stored:
    """The record in what was parsed. Raises BadRecord, one line: ``where``, the field, what of it.

    ``records.jsonl line 3: metrics.asr: expected a number, got "high"``
    """
    try:
        return msgspec.convert(content, Stored)
    except msgspec.ValidationError as error:
        raise BadRecord(f"{where}: {_plainly(str(error), content)}") from error


WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "object": "an object",
    "array": "a list",
    "bool": "true or false",
}
"""msgspec's word for a type -> ours."""


def _plainly(said: str, content: dict[str, Any]) -> str:
    """msgspec's complaint with the field in front and the value behind.

    It shows an entry of a mapping as ``[...]``; which one it is, is looked up.
    """
    what, _, path = said.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if field.endswith("[...]"):
        field = _entry(field.removesuffix("[...]"), content) or field
    if match := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{'.'.join(filter(None, (field, match[1])))}: missing"
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        return f"{'.'.join(filter(None, (field, match[1])))}: an unknown field"
    first, _, second = field.partition(".")
    got = content[first][second] if second else content[first]
    if match := re.match(r"Expected `(\w+)", what):
        return f"{field}: expected {WORDS.get(match[1], match[1])}, got {_shown(got)}"
    known = " or ".join(_shown(value) for value in get_args(get_type_hints(Stored)[first]))
    return f"{field}: expected {known}, got {_shown(got)}"


def _entry(field: str, content: dict[str, Any]) -> str:
    """``metrics`` -> ``metrics.asr``, the first of the mapping's entries that is of no use."""
    kind = get_args(get_type_hints(Stored)[field])[1]
    for name, value in content[field].items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return f"{field}.{name}"
    return ""


def _shown(value: Any) -> str:
    """JSON of a value, cut to what a line can hold."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}..."
