"""Reads a TOML file as a typed struct: a misspelt key is one line that names file and entry."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from bench.runtime import files
from fixtures.errors import BenchError

Kind = TypeVar("Kind", bound=msgspec.Struct)


def read(path: Path, kind: type[Kind]) -> Kind:
    """Raises BenchError, one line, where the file is missing, no TOML, or not of that kind."""
    try:
        return msgspec.convert(files.read_toml(path), kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        entry = where.rstrip("`").lstrip(".")
        raise BenchError(f"{path.name}: {f'{entry}: ' if entry else ''}{what}") from error
