"""What happens to each defense as the attacker poisons more: a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.axis import Point
from bench.analysis.series import Measured
from bench.analysis.squares import show
from bench.analysis.sweep import SHOWN, points
from bench.report import axis
from bench.spec.cell import Kind
from bench.spec.metrics import METRICS

DRAWN: dict[Kind, dict[str, str]] = {
    "detection": {"f1": "#3b6ea5", "tpr": "#e0a030", "fpr": "#d1495b", "verdict_correct": "#3b6ea5",
                  "tpr_at_5_fpr": "#3b6ea5"},
    "repair": {"asr_before": "#b0b7c3", "asr": "#d1495b", "clean_accuracy": "#3b6ea5"},
    "training": {"asr_before": "#b0b7c3", "asr": "#d1495b", "clean_accuracy": "#3b6ea5"},
}  # fmt: skip
HALF = "half of the target's class is poison"


def markdown(rows: Sequence[Point]) -> str:
    """A table for each defense of one study."""
    parts = []
    for defense in dict.fromkeys(row["defense"] for row in rows):
        some = [row for row in rows if row["defense"] == defense]
        measured = [m for m in SHOWN[some[0]["kind"]] if any(m in row for row in some)]
        shown = [
            {
                "attack": row["attack"],
                "poison rate (%)": f"{100 * row['rate']:g}",
                "poisons": row["poisons"],
                "share of the target's class (%)": f"{100 * row['target_share']:.1f}",
                "seeds": row["seeds"],
                **{METRICS[m].heading: show(m, row.get(m)) for m in measured},
            }
            for row in some
        ]
        table = pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)
        parts += [f"### {defense}", "", table, "", axis.complete(some, "rate"), ""]
    return "\n".join(parts)


def figure(study: str, rows: Sequence[Point]) -> Figure:
    """A row of panels for each defense, a panel for each attack; bars are 95 % intervals."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    defenses = list(dict.fromkeys((row["kind"], row["defense"]) for row in rows))
    drawing = Figure(figsize=(2.9 * len(attacks) + 0.8, 2.7 * len(defenses) + 0.6))
    grid = drawing.subplots(len(defenses), len(attacks), squeeze=False, sharex=True, sharey="row")
    for axes, (kind, defense) in zip(grid, defenses, strict=True):
        for ax, attack in zip(axes, attacks, strict=True):
            _panel(ax, [r for r in rows if (r["attack"], r["defense"]) == (attack, defense)], kind)
            ax.set_title(attack, fontsize=10)
        axes[0].set_ylabel(f"{defense} (%)", fontsize=9)
        axes[-1].legend(fontsize=7, loc="best")
    for ax in grid[-1]:
        ax.set_xlabel("poison rate (%)", fontsize=8)
    drawing.suptitle(f"{study}; dotted: {HALF}")
    drawing.tight_layout()
    return drawing


def _panel(ax: Axes, rows: Sequence[Point], kind: Kind) -> None:
    ax.set_xscale("log")
    rates = [100 * row["rate"] for row in rows]
    for metric, colour in DRAWN[kind].items():
        found = [row.get(metric) for row in rows]
        axis.line(ax, rates, found, label=METRICS[metric].title, color=colour)
    share = [row["target_share"] for row in rows]
    if share and min(share) < 0.5 < max(share):
        ax.axvline(np.exp(np.interp(0.5, share, np.log(rates))), color="#888888", linestyle=":")
    ax.set_ylim(-4, 104)
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)


def write(measured: Measured, folder: Path, note: str) -> list[Path]:
    """Write ``sweep.md``, ``.csv`` and a figure for each study, where rates were swept."""
    return axis.write(
        points(measured),
        folder,
        "sweep",
        "Poison rates",
        note,
        lambda study, rows: {"sweep": figure(study, rows)},
        markdown,
    )
