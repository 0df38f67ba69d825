"""What carries over from one study to others: a table, and a figure of each defense's places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.agreement import Agreement, agreements
from bench.analysis.headline import HEADLINE
from bench.analysis.nulls import is_null
from bench.analysis.ranking import TITLES
from bench.analysis.series import Measured
from bench.analysis.studies import largest_first
from bench.report.figures import png
from bench.report.markdown import table
from bench.runtime import files
from bench.spec.metrics import METRICS

FILE = "agreement.png"
SWAPPED, KEPT = "#d1495b", "#8a94a0"


def markdown(measured: Measured) -> str:
    """A row for each two studies and kind of defense."""
    found = agreements(largest_first(measured))
    if not found:
        return "No two studies have three defenses of a kind in common."
    rows = [
        {
            "of": _titled(one),
            "from": " / ".join(one.studies[0]),
            "to": " / ".join(one.studies[1]),
            "attacks": ", ".join(one.attacks),
            "defenses": len(one.places),
            "rank correlation": f"{one.correlation:.2f}",
            "better from, worse to": "; ".join(f"{a} than {b}" for a, b in one.swapped),
            "change places within chance": f"{one.unsure} of {math.comb(len(one.places), 2)} pairs",
        }
        for one in found
    ]
    note = (
        "Rank correlation: Spearman's, of the means over attacks that took in both. A pair is "
        "named where the first is better in the one study and the second in the other, in both by "
        "more than chance explains, paired by seed."
    )
    return f"{table(rows)}\n\n{note}"


def write(measured: Measured, folder: Path) -> list[Path]:
    """Draw ``agreement.png``; nothing where no two studies have enough in common."""
    found = agreements(largest_first(measured))
    return [files.write(folder / FILE, png(figure(found)))] if found else []


def figure(found: Sequence[Agreement]) -> Figure:
    """A row of panels for each kind of defense, a panel for each two studies."""
    kinds = list(dict.fromkeys(one.of for one in found))
    others = list(dict.fromkeys(one.studies[1] for one in found))
    drawing = Figure(figsize=(4.6 * len(others), 3.2 * len(kinds) + 0.6), layout="constrained")
    grid = drawing.subplots(len(kinds), len(others), squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    for one in found:
        ax = grid[kinds.index(one.of)][others.index(one.studies[1])]
        ax.axis("on")
        _panel(ax, one)
    drawing.suptitle(
        "Places in two studies, the best on top\nred: swapped, dashed: nulls", fontsize=10
    )
    return drawing


def _panel(ax: Axes, one: Agreement) -> None:
    changed = {name for pair in one.swapped for name in pair}
    places = [_places({name: score[side] for name, score in one.places.items()}) for side in (0, 1)]
    for name in one.places:
        ends = [places[0][name], places[1][name]]
        ax.plot([0, 1], ends, marker="o", markersize=4, linewidth=1.6,
                linestyle="--" if is_null(name) else "-",
                color=SWAPPED if name in changed else KEPT)  # fmt: skip
        for side, end in enumerate(ends):
            score = METRICS[HEADLINE[one.of]].show(one.places[name][side])
            ax.annotate(f"{name} {score}", (side, end), (-6 + 12 * side, 0), fontsize=7,
                        textcoords="offset points", va="center",
                        ha="left" if side else "right")  # fmt: skip
    ax.set_xlim(-1.1, 2.1)
    ax.set_ylim(len(one.places) + 0.6, 0.4)
    ax.set_yticks([])
    ax.set_xticks([0, 1], ["\n".join(study) for study in one.studies], fontsize=8)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.set_title(f"{_titled(one)}, rank correlation {one.correlation:.2f}", fontsize=9)


def _places(scores: dict[str, float]) -> dict[str, int]:
    """Defense -> 1 for the best."""
    ordered = sorted(scores, key=lambda name: -scores[name])
    return {name: place for place, name in enumerate(ordered, start=1)}


def _titled(one: Agreement) -> str:
    return f"{TITLES[one.of]} by {METRICS[HEADLINE[one.of]].heading}"
