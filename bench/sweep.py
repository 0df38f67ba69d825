"""What happens to each defense as the attacker poisons more: a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import files, tables
from bench.cell import level_of, poison_rate_of
from bench.figures import png
from bench.metrics import METRICS
from bench.records import Record

SHOWN: dict[str, list[str]] = {
    "detection": ["tpr", "fpr", "f1", "false_labels"],
    "repair": ["clean_accuracy_before", "asr_before", "clean_accuracy", "asr"],
}
DRAWN = {
    "detection": {"f1": ("F1", "#3b6ea5"), "tpr": ("TPR", "#e0a030"), "fpr": ("FPR", "#d1495b")},
    "repair": {
        "asr_before": ("ASR before", "#b0b7c3"),
        "asr": ("ASR after", "#d1495b"),
        "clean_accuracy": ("clean accuracy after", "#3b6ea5"),
    },
}
HALF = "half of the target's class is poison"


def points(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each attack, poison rate and defense; empty unless some attack has two rates.

    ``rate``: share of the training set; ``target_share``: of the samples with the target's label.
    """
    rows = []
    for group in tables.seeds_together(r for r in records if r.kind != "attack"):
        record = group[0]
        params = dict(record.cell.attack_params)
        rate = params.pop("poison_rate", None) or poison_rate_of(record.cell.attack)
        if params or not rate:  # another kind of variation, or nothing poisoned
            continue
        row = {
            "dataset": record.cell.dataset,
            "model": record.cell.model,
            "attack": record.cell.attack,
            "rate": rate,
            "poisons": record.details["poisoned_samples"],
            "target_share": np.mean(
                [r.details["poisoned_samples"] / r.details["target_samples"] for r in group]
            ),
            "kind": record.kind,
            "defense": tables.with_params(record.cell.defense, record.cell.defense_params),
            "seeds": len(group),
            "lineage": record.lineage[:8],
        }
        for metric in SHOWN[record.kind]:
            values = [r.metrics[metric] for r in group if metric in r.metrics]
            row[metric] = tables.estimate(values) if values else None
        rows.append(row)
    swept: dict[tuple[str, str, str], set[float]] = {}
    for row in rows:
        swept.setdefault((row["dataset"], row["model"], row["attack"]), set()).add(row["rate"])
    rows = [row for row in rows if len(swept[row["dataset"], row["model"], row["attack"]]) > 1]
    return sorted(rows, key=lambda r: (r["defense"], level_of(r["attack"]), r["attack"], r["rate"]))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each defense."""
    parts = []
    for defense in dict.fromkeys(row["defense"] for row in rows):
        some = [row for row in rows if row["defense"] == defense]
        shown = [
            {
                "data set": row["dataset"],
                "attack": row["attack"],
                "poison rate (%)": f"{100 * row['rate']:g}",
                "poisons": row["poisons"],
                "share of the target's class (%)": f"{100 * row['target_share']:.1f}",
                "seeds": row["seeds"],
                **{
                    METRICS[metric].heading: tables.show(metric, row[metric])
                    for metric in SHOWN[row["kind"]]
                },
            }
            for row in some
        ]
        table = pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)
        parts += [f"## {defense}", "", table, "", _complete(some), ""]
    return "\n".join(parts)


def _complete(rows: Sequence[dict[str, Any]]) -> str:
    """How many cells the table lacks: every attack at every rate, with as many seeds."""
    attacks, rates = ({row[name] for row in rows} for name in ("attack", "rate"))
    seeds = max(row["seeds"] for row in rows)
    whole, have = len(attacks) * len(rates) * seeds, sum(row["seeds"] for row in rows)
    return f"{have} of {whole} cells, {whole - have or 'none'} lacking."


def csv(rows: Sequence[dict[str, Any]]) -> str:
    return pd.DataFrame([tables.flat(row) for row in rows]).to_csv(index=False)


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """A row of panels for each defense, a panel for each attack; bars are 95 % intervals."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    defenses = list(dict.fromkeys((row["kind"], row["defense"]) for row in rows))
    drawing = Figure(figsize=(2.9 * len(attacks) + 0.8, 2.7 * len(defenses) + 0.6))
    grid = drawing.subplots(len(defenses), len(attacks), squeeze=False, sharex=True, sharey="row")
    for axes, (kind, defense) in zip(grid, defenses, strict=True):
        for ax, attack in zip(axes, attacks, strict=True):
            some = [r for r in rows if (r["attack"], r["defense"]) == (attack, defense)]
            _panel(ax, some, kind)
            ax.set_title(attack, fontsize=10)
        axes[0].set_ylabel(f"{defense} (%)", fontsize=9)
        axes[-1].legend(fontsize=7, loc="best")
    for ax in grid[-1]:
        ax.set_xlabel("poison rate (% of the training set)", fontsize=8)
    drawing.suptitle(f"{', '.join(dict.fromkeys(r['dataset'] for r in rows))}; dotted: {HALF}")
    drawing.tight_layout()
    return drawing


def _panel(ax: Axes, rows: Sequence[dict[str, Any]], kind: str) -> None:
    ax.set_xscale("log")
    rates = [100 * row["rate"] for row in rows]
    for metric, (label, colour) in DRAWN[kind].items():
        found = [row[metric] for row in rows]
        mean = [100 * e.mean if e else np.nan for e in found]
        half = [100 * e.half if e and e.half else 0.0 for e in found]
        ax.errorbar(rates, mean, yerr=half, label=label, color=colour, marker="o", markersize=3,
                    linewidth=1.4, capsize=2)  # fmt: skip
    share = [row["target_share"] for row in rows]
    if share and min(share) < 0.5 < max(share):
        ax.axvline(np.exp(np.interp(0.5, share, np.log(rates))), color="#888888", linestyle=":")
    ax.set_ylim(-4, 104)
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)


def write(records: Sequence[Record], folder: Path, note: str) -> list[Path]:
    """Write ``sweep.md``, ``.csv`` and ``.png`` where the records hold a sweep."""
    rows = points(records)
    if not rows:
        return []
    text = f"# Poison rates\n\n{markdown(rows)}\n![Defenses by poison rate](sweep.png)\n\n{note}\n"
    return [
        files.write(folder / "sweep.md", text),
        files.write(folder / "sweep.csv", csv(rows)),
        files.write(folder / "sweep.png", png(figure(rows))),
    ]
