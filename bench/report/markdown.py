"""Markdown tables without padding: pages with long lines are read rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Headings are the first row's keys; a column without a single value is left out."""
    names = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")
