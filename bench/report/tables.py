"""Rows -> tables, as Markdown and CSV. Every figure in them is made in `bench.analysis`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.analysis.rows import Row
from bench.analysis.squares import Table, show
from bench.spec.metrics import METRICS

HEADINGS = {
    "remark": "why this variant fails",
    "backdoor": "the attack",
    "poisoned": "poisoned (%)",
    "parameters": "for this data set",
    "trained_on": "trained on",
    "nulls": "against its nulls",
}
BRIEF = {"dataset", "model", "needs", "sees", "poisoned", "parameters", "linf", "psnr", "ssim",
         "changed", "linf_train", "psnr_train", "ssim_train", "changed_train", "ra_before",
         "remark"}  # fmt: skip
"""Columns that do not fit a terminal."""


def csv(rows: Iterable[Row]) -> str:
    """Every figure as a number: for each metric its mean and the ends of its 95 % interval."""
    return pd.DataFrame([flat(row) for row in rows]).to_csv(index=False)


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with each estimate as three numbers, ``name``, ``name_low`` and ``name_high``."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name in METRICS:
            low, high = (value.interval if value else None) or (None, None)
            out |= {name: value.mean if value else None, f"{name}_low": low, f"{name}_high": high}
        else:
            out[name] = value
    return out


def markdown(rows: Sequence[Row], *, brief: bool = False) -> str:
    """Rows of one kind as people read them; a column without a single value is left out.

    ``brief`` leaves out what does not fit a terminal. The identity is told where a cell has more
    than one row.
    """
    if not rows:
        return ""
    hidden = set(BRIEF) if brief else set()
    if "defense" in rows[0]:
        hidden |= {"poisoned", "parameters"}
    if len({_cell(row) for row in rows}) == len(rows):
        hidden.add("identity")
    shown = {
        HEADINGS.get(name, name) if name not in METRICS else METRICS[name].heading: values
        for name in rows[0]
        if name not in hidden and any(values := [_text(name, row[name]) for row in rows])
    }
    return pd.DataFrame(shown).to_markdown(
        index=False, tablefmt="simple" if brief else "github", disable_numparse=True
    )


def of_squares(table: Table) -> str:
    """A table of squares as Markdown."""
    shown = [{name: square.text for name, square in row.items()} for row in table.rows]
    return pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)


def _cell(row: Row) -> tuple[str, ...]:
    return tuple(row.get(name, "") for name in ("dataset", "model", "attack", "defense"))


def _text(name: str, value: Any) -> str:
    return show(name, value) if name in METRICS else str(value)
