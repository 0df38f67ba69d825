"""Where figures come from, as people read it: data sets, seeds, commands, commits."""

from __future__ import annotations

from collections.abc import Iterable

from bench.analysis.frame import study_of
from bench.store.records import Record


def datasets_of(records: Iterable[Record]) -> str:
    """The data sets and models behind a table, for its title."""
    return ", ".join(dict.fromkeys(" / ".join(study_of(r.cell)) for r in records))


def seeds_of(records: Iterable[Record]) -> str:
    """``0, 4, 7``, or ``0 to 11`` where none is left out."""
    seeds = sorted({r.cell.seed for r in records})
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def commands(records: Iterable[Record]) -> str:
    """The commands that made some records, for the line under a table."""
    found = dict.fromkeys(record.command for record in records)
    return " and ".join(f"`{command}`" for command in found if command) or "code, not a command"


def commit(record: Record) -> str:
    """The first ten digits of a record's commit, and whether the checkout had changes."""
    known = record.environment.get("commit")
    if known is None:
        return "unknown"
    return str(known)[:10] + (" with changes" if record.environment.get("dirty") else "")


def provenance(records: Iterable[Record]) -> str:
    """Seeds, command and commit: what a reader needs to make a figure again."""
    found = list(records)
    made_by = " and ".join(dict.fromkeys(r.command or "code, not a command" for r in found))
    commits = ", ".join(dict.fromkeys(commit(r) for r in found))
    return f"seeds {seeds_of(found)}; {made_by}; commit {commits}"
