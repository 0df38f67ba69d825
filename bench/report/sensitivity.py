"""What came of tuning: a page, a table of numbers and a figure for each defense."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.analysis.provenance import commands, seeds_of
from bench.analysis.sensitivity import OTHERS, Row, Sensitivity
from bench.analysis.squares import show
from bench.report.figures import file_of, png
from bench.report.markdown import table
from bench.runtime import files
from bench.spec.metrics import METRICS
from bench.spec.parameters import defaults_of
from defenses import DEFENSES

GRID, OTHER = "#3b6ea5", "#888888"


def write(found: Sequence[Sensitivity], folder: Path) -> list[Path]:
    """Write ``tuning-DEFENSE.md`` and ``.csv`` for each defense, and a figure for each study."""
    written: list[Path] = []
    for defense in dict.fromkeys(one.defense for one in found):
        some = [one for one in found if one.defense == defense]
        parts = [f"# Tuning {defense}", ""]
        for one in some:
            name = file_of(one.study, f"tuning-{defense}")
            written.append(files.write(folder / name, png(figure(one))))
            parts += [*_section(one), f"![{defense} at each setting]({name})", ""]
        numbers = pd.DataFrame([row for one in some for row in _numbers(one)]).to_csv(index=False)
        written.append(files.write(folder / f"tuning-{defense}.md", "\n".join(parts)))
        written.append(files.write(folder / f"tuning-{defense}.csv", numbers))
    return written


def _section(one: Sensitivity) -> Iterator[str]:
    records = [record for series in one.behind for record in series.records]
    yield f"## {' / '.join(one.study)}"
    yield ""
    yield table(_rows(one))
    yield ""
    for line in said(one):
        yield f"- {line}"
    yield ""
    yield (
        f"{_judged_on(one)}, seeds {seeds_of(records)}; ± is half the 95 % interval. Nothing was "
        f"changed: other seeds must show what a choice is worth. Made by {commands(records)}."
    )
    yield ""


def _rows(one: Sensitivity) -> list[dict[str, str]]:
    """A line for each setting, then one for each other defense."""
    names = _names(one)
    found = []
    for row in [*_settings(one), *one.others]:
        own = row.defense == one.defense
        found.append(
            {
                "defense": row.defense,
                **{name: _value(row, name) if own else "" for name in names},
                **{a: METRICS[one.metric].show(e) for a, e in row.by_attack.items()},
                f"{METRICS[one.metric].heading}, mean": METRICS[one.metric].show(row.mean),
                "": _mark(one, row),
            }
        )
    return found


def _mark(one: Sensitivity, row: Row) -> str:
    marks = {"the default": row is one.default, "the best": row is one.best}
    return ", ".join(mark for mark, holds in marks.items() if holds)


def _numbers(one: Sensitivity) -> Iterator[dict[str, Any]]:
    """Every figure as a number."""
    dataset, model = one.study
    for row in [*_settings(one), *one.others]:
        yield {
            "dataset": dataset,
            "model": model,
            "defense": row.defense,
            **dict.fromkeys(_names(one), ""),
            **({n: _value(row, n) for n in _names(one)} if row.defense == one.defense else {}),
            **{f"{attack}_{one.metric}": mean for attack, mean in row.by_attack.items()},
            one.metric: row.mean,
            "default": row is one.default,
            "best": row is one.best,
        }


def said(one: Sensitivity) -> Iterator[str]:
    """What the figures say, in sentences; they recommend nothing, and nothing was changed."""
    metric = METRICS[one.metric]
    best = metric.show(one.best.mean)
    yield f"Best on validation: {_setting(one, one.best)}, {metric.title} {best}."
    if one.best is one.default:
        yield "The default is the best setting."
    else:
        gain = f"{show(one.metric, one.gain)} over {one.gain.n} victims, each paired with itself"
        verdict = "is told apart from" if one.is_told_apart else "is not told apart from"
        yield f"The default {verdict} it: the best leads by {gain}."
    spread = f"Over the grid the mean spreads by {metric.show(one.spread)}"
    if one.between is None:
        few = f"fewer than {OTHERS} other defenses of its kind were measured on these victims"
        yield f"{spread}. What share of the spread between defenses that is cannot be said: {few}."
    elif one.share is None:
        yield f"{spread}. The other defenses of its kind do not differ, so no share can be said."
    else:
        yield (
            f"{spread}, {100 * one.share:.0f} % of the spread of {metric.show(one.between)} "
            f"between defenses of its kind as they are "
            f"({', '.join(row.defense for row in [one.default, *one.others])})."
        )
    for line in one.left_out:
        yield f"Left out: {line}."
    for line in one.differing:
        yield f"The settings differ in more than their parameters: {line}."


def figure(one: Sensitivity) -> Figure:
    """A point for each setting and for each other defense; bands span what each set spreads."""
    rows = [*one.others[::-1], *_settings(one)[::-1]]
    drawing = Figure(figsize=(7, 0.32 * len(rows) + 1.5))
    ax = drawing.subplots()
    for some, colour in (([one.default, *one.others], OTHER), (one.settings, GRID)):
        means = [row.mean for row in some]
        ax.axvspan(min(means), max(means), color=colour, alpha=0.15, linewidth=0)
    for place, row in enumerate(rows):
        own = row.defense == one.defense
        ax.plot(row.mean, place, marker="D" if row is one.default else "o", linestyle="",
                color=GRID if own else OTHER)  # fmt: skip
    names = [_setting(one, r) if r.defense == one.defense else r.defense for r in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    ax.set_xlabel(f"{METRICS[one.metric].heading}, mean", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    share = "" if one.share is None else f": {100 * one.share:.0f} % of the spread between defenses"
    seeds = seeds_of(record for series in one.behind for record in series.records)
    ax.set_title(
        f"{one.defense} over its grid{share}\n"
        f"({' / '.join(one.study)}, validation, seeds {seeds}; diamond: the default)",
        fontsize=9,
    )
    return drawing


def _names(one: Sensitivity) -> list[str]:
    """The parameters that the grid varies."""
    return list(dict.fromkeys(name for row in one.settings for name in row.params))


def _settings(one: Sensitivity) -> list[Row]:
    """By their parameters, numbers by size, whatever the order that they were measured in."""
    names = _names(one)

    def place(row: Row) -> list[tuple[float, str]]:
        values = [_raw(row, name) for name in names]
        return [
            (value, "") if isinstance(value, int | float) else (math.inf, str(value))
            for value in values
        ]

    return sorted(one.settings, key=place)


def _raw(row: Row, name: str) -> Any:
    """What a parameter was; records outlive plugins, whose defaults are then not known."""
    usual = defaults_of(DEFENSES[row.defense].factory) if row.defense in DEFENSES else {}
    return row.params.get(name, usual.get(name, "default"))


def _value(row: Row, name: str) -> str:
    value = _raw(row, name)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _setting(one: Sensitivity, row: Row) -> str:
    return ", ".join(f"{name} {_value(row, name)}" for name in _names(one))


def _judged_on(one: Sensitivity) -> str:
    """What the figures are of: a detector of samples is judged on the training set it is given."""
    if one.behind[0].flavour == "samples":
        return "Judged on the victims' training sets, and by validation images whether they took"
    data = one.behind[0].records[0].data
    return f"Judged on {data.get('validation', 'the')} validation images"
