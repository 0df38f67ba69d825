"""Suites: which attacks meet which defenses, each declared in a small TOML file.

about = "what it is for"            # optional
attacks = ["none", "p*"]            # names or globs; parameters after a plus sign
defenses = ["none", "@detection"]   # likewise; @KIND is every defense of a kind or flavour
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench.runtime import files
from fixtures.errors import BenchError
from fixtures.registry import did_you_mean

FOLDER = Path(__file__).with_name("suites")
STUDY = "study"
EVERYTHING = "all"


@dataclass(frozen=True)
class Suite:
    """``attacks``, ``defenses``: what the file says, not yet looked up. ``name``: the file's."""

    name: str
    about: str
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    path: Path


def names(pattern: str = "*") -> list[str]:
    """Built-in suites that match a glob, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if fnmatchcase(path.stem, pattern))


def named(text: str) -> list[Suite]:
    """The suites that a list of globs names. Raises BenchError for a glob without any."""
    found = []
    for pattern in (part.strip() for part in text.split(",")):
        matching = names(pattern)
        if not matching:
            near = did_you_mean(pattern, names())
            raise BenchError(f"unknown suite {pattern!r}{near}; known: {', '.join(names())}")
        found += matching
    return [read(FOLDER / f"{name}.toml") for name in dict.fromkeys(found)]


def read(path: Path) -> Suite:
    """A suite's file. Raises BenchError, one line that names the file and what is wrong in it."""
    content = files.read_toml(path)
    unknown = sorted(set(content) - {"about", "attacks", "defenses"})
    if unknown:
        raise BenchError(
            f"{path}: unknown entry {unknown[0]!r}; a suite has about, attacks, defenses"
        )
    return Suite(
        name=path.stem,
        about=_text(path, content.get("about", "")),
        attacks=_list(path, content, "attacks"),
        defenses=_list(path, content, "defenses"),
        path=path,
    )


def _text(path: Path, value: Any) -> str:
    if not isinstance(value, str):
        raise BenchError(f"{path}: about = {value!r}, expected a text")
    return value


def _list(path: Path, content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key)
    if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
        shown = "is missing" if value is None else f"= {value!r}"
        raise BenchError(f'{path}: {key} {shown}, expected a list of names like ["none", "p*"]')
    return tuple(value)
