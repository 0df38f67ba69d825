"""What each defense makes of fewer and of more clean images: tables and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.axis import Point
from bench.analysis.budget import SHOWN, points
from bench.analysis.series import Measured
from bench.analysis.squares import show
from bench.report import axis
from bench.spec.budget import ALL
from bench.spec.cell import KINDS, Kind
from bench.spec.metrics import METRICS

IMAGES = "clean images of each class"


def markdown(rows: Sequence[Point]) -> str:
    """A table for each metric of one study: attacks and budgets down, defenses across."""
    parts = []
    for kind in KINDS:
        for metric, some in _measured(rows, kind).items():
            parts += [f"### {METRICS[metric].heading}", "", _across(metric, some), ""]
            parts += [axis.complete(some, "budget"), ""]
    return "\n".join(parts)


def _measured(rows: Sequence[Point], kind: Kind) -> dict[str, list[Point]]:
    """Metric -> the points of a kind of defense that have it."""
    found = {
        metric: [row for row in rows if row["kind"] == kind and metric in row]
        for metric in SHOWN[kind]
    }
    return {metric: some for metric, some in found.items() if some}


def _across(metric: str, rows: Sequence[Point]) -> str:
    attacks = pd.CategoricalDtype([*dict.fromkeys(row["attack"] for row in rows)], ordered=True)
    frame = pd.DataFrame(rows).astype({"attack": attacks})
    frame["text"] = [row["backdoor"] or show(metric, row[metric]) for row in rows]
    frame["column"] = [_titled(row) for row in rows]
    by = ["attack", "budget"]
    table = frame.pivot(index=by, columns="column", values="text").fillna("")
    table = table[[*dict.fromkeys(frame["column"])]]
    table["seeds"] = frame.groupby(by, observed=True)["seeds"].agg(_span)
    table = table.reset_index()
    table["budget"] = table["budget"].map(_written)
    return table.rename(columns={"budget": IMAGES}).to_markdown(index=False, disable_numparse=True)


def _titled(row: Point) -> str:
    return f"{row['defense']} (null)" if row["null"] else str(row["defense"])


def _span(seeds: pd.Series[int]) -> str:
    low, high = seeds.min(), seeds.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _written(budget: float) -> str:
    return ALL if math.isinf(budget) else f"{budget:g}"


def figures(study: str, rows: Sequence[Point]) -> Mapping[str, Figure]:
    """``budget-repair`` and the like -> a figure for each kind of defense that was measured."""
    kinds = {kind: by_metric for kind in KINDS if (by_metric := _measured(rows, kind))}
    return {f"budget-{kind}": _figure(study, kinds[kind]) for kind in kinds}


def _figure(study: str, by_metric: Mapping[str, Sequence[Point]]) -> Figure:
    """A row of panels for each metric, a panel for each attack, a line for each defense."""
    everything = [row for rows in by_metric.values() for row in rows]
    attacks = {row["attack"]: row["backdoor"] for row in everything}
    budgets = sorted({row["budget"] for row in everything})
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    defenses = {row["defense"]: row for row in everything}
    style = {
        name: {"label": _titled(row), "color": colours[n % 10],
               "linestyle": "--" if row["null"] else "-"}
        for n, (name, row) in enumerate(defenses.items())
    }  # fmt: skip
    size = (2.9 * len(attacks) + 2.2, 2.4 * len(by_metric) + 0.8)
    drawing = Figure(figsize=size, layout="constrained")
    grid = drawing.subplots(len(by_metric), len(attacks), squeeze=False, sharex=True, sharey="row")
    for axes, (metric, rows) in zip(grid, by_metric.items(), strict=True):
        for ax, attack in zip(axes, attacks, strict=True):
            of_attack = [row for row in rows if row["attack"] == attack]
            _panel(ax, metric, of_attack, budgets, style)
        axes[0].set_ylabel(METRICS[metric].heading, fontsize=9)
    for ax, (attack, failure) in zip(grid[0], attacks.items(), strict=True):
        ax.set_title(f"{attack}\n{failure}".strip(), fontsize=10)
    for ax in grid[-1]:
        ax.set_xlabel(IMAGES, fontsize=8)
    told = {label: handle for ax in grid.flat for handle, label in
            zip(*ax.get_legend_handles_labels(), strict=True)}  # fmt: skip
    drawing.legend(told.values(), told.keys(), fontsize=8, loc="outside right upper")
    drawing.suptitle(f"{study}; dashed: null baselines")
    return drawing


def _panel(
    ax: Axes,
    metric: str,
    rows: Sequence[Point],
    budgets: Sequence[float],
    style: Mapping[str, Mapping[str, object]],
) -> None:
    scale = 100.0 if METRICS[metric].unit == "%" else 1.0
    for name in style:
        own = sorted((r for r in rows if r["defense"] == name), key=lambda row: row["budget"])
        at = [budgets.index(row["budget"]) for row in own]
        axis.line(ax, at, [row[metric] for row in own], scale, **style[name])
    ax.set_xticks(range(len(budgets)), [_written(budget) for budget in budgets])
    ax.spines[["top", "right"]].set_visible(False)


def write(measured: Measured, folder: Path, note: str) -> list[Path]:
    """Write ``budget.md``, ``.csv`` and figures for each study, where budgets were swept."""
    return axis.write(points(measured), folder, "budget", "Clean budgets", note, figures, markdown)
