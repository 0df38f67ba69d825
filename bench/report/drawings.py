"""How each figure is drawn, with nothing but what stands in the records."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.analysis.provenance import datasets_of, seeds_of
from bench.analysis.series import Measured, Series
from bench.analysis.squares import Table
from bench.analysis.statistics import estimates
from bench.analysis.taken import Taken
from bench.store.records import Record

CLEAN, POISON = "#3b6ea5", "#d1495b"
NULLS = ("#222222", "#2a9d8f", "#e0a030")


def gallery(records: Sequence[Record]) -> Figure:
    """Each trigger on real test images: clean, triggered, and the difference amplified."""
    shown = 3
    figure = Figure(figsize=(1.35 * 3 * shown, 1.6 * len(records) + 0.4))
    axes = figure.subplots(len(records), 3 * shown, squeeze=False)
    for row, record in zip(axes, records, strict=True):
        clean = images_of(record.details["gallery"]["clean"])[:shown]
        triggered = images_of(record.details["gallery"]["triggered"])[:shown]
        difference = np.abs(triggered - clean)
        factor = max(1, round(1 / max(float(difference.max()), 1e-6)))
        groups = [
            ("clean", clean),
            ("triggered", triggered),
            (f"difference x{factor}", difference * factor),
        ]
        for ax in row:
            ax.axis("off")
        for number, (title, images) in enumerate(groups):
            row[number * shown + shown // 2].set_title(title, fontsize=9)
            for ax, image in zip(row[number * shown :], images, strict=False):
                ax.imshow(np.clip(image.squeeze(), 0, 1), cmap="gray", vmin=0, vmax=1)
        row[0].text(-0.15, 0.5, _in_lines(record.cell.attack), rotation=90, va="center", ha="right",
                    transform=row[0].transAxes, fontsize=11)  # fmt: skip
    height = float(figure.get_figheight())
    figure.suptitle(f"Triggers on test images ({datasets_of(records)})", y=0.88 + 0.55 / height)
    return figure


def _in_lines(attack: str) -> str:
    """A long name would reach into its neighbour's."""
    return attack.replace("_", "\n")


def scatter(records: Sequence[Record]) -> Figure:
    """The target class's activations, coloured by truth (above) and by the verdict (below)."""
    figure = Figure(figsize=(2.9 * len(records) + 0.6, 5.8))
    axes = figure.subplots(2, len(records), squeeze=False)
    for column, record in zip(axes.T, records, strict=True):
        data = record.details["scatter"]
        points = points_of(data)
        f1 = record.metrics.get("f1")
        for ax, key in zip(column, ("poisoned", "flagged"), strict=True):
            marked = marks_of(data[key], len(points))
            for mask, colour, label in ((~marked, CLEAN, f"not {key}"), (marked, POISON, key)):
                ax.scatter(*points[mask].T, s=5, c=colour, label=label, alpha=0.6, linewidths=0)
            ax.set_xticks([])
            ax.set_yticks([])
        column[0].set_title(record.cell.attack + ("" if f1 is None else f"  F1 {f1:.3f}"))
    for ax, label in zip(axes[:, 0], ("truth", "verdict"), strict=True):
        ax.set_ylabel(label)
        ax.legend(fontsize=7, markerscale=2, loc="best")
    figure.suptitle(
        f"Activations of the target class, first two principal components: "
        f"{records[0].cell.defense} ({datasets_of(records)}, seed {records[0].cell.seed})"
    )
    return figure


def recovered_triggers(records: Sequence[Record]) -> Figure:
    """What the trigger really changes, the mask recovered for its target, and what that paints."""
    figure = Figure(figsize=(1.5 * len(records) + 0.6, 5.2))
    axes = figure.subplots(3, len(records), squeeze=False)
    for column, record in zip(axes.T, records, strict=True):
        for ax, key in zip(column, ("true", "mask", "shown"), strict=True):
            image = images_of(record.details["recovered"][key])[0].squeeze()
            ax.imshow(image / max(float(image.max()), 1e-6), cmap="gray", vmin=0, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
        iou = record.metrics.get("mask_iou")
        column[0].set_title(_in_lines(record.cell.attack), fontsize=9)
        column[1].set_title("" if iou is None else f"IoU {iou:.2f}", fontsize=8)
    for ax, label in zip(axes[:, 0], ("true change, mean", "mask", "mask x pattern"), strict=True):
        ax.set_ylabel(label, fontsize=8)
    figure.suptitle(
        f"Triggers recovered by {records[0].cell.defense} for the true target, each scaled to its "
        f"brightest\n({datasets_of(records)}, seed {records[0].cell.seed})",
        y=1.01,  # above names of two lines
        fontsize=10,
    )
    return figure


def heat(maps: Sequence[Table], records: Sequence[Record]) -> Figure:
    """Attack x defense, a panel for each kind of defense; green is good for the defender."""
    widths = [len(table.rows[0]) for table in maps]
    rows = max(len(table.rows) for table in maps)
    figure = Figure(figsize=(1.05 * sum(widths) + 1.5, 0.42 * rows + 2.4), layout="constrained")
    panels = figure.subplots(1, len(maps), squeeze=False, width_ratios=widths)[0]
    for ax, table in zip(panels, maps, strict=True):
        defenses = list(table.rows[0])[1:]
        attacks = [row["attack"].text for row in table.rows]
        values = [[row[d].value for d in defenses] for row in table.rows]
        shown = np.array([[np.nan if v is None else float(v) for v in row] for row in values])
        colours = "RdYlGn_r" if table.tags[0]["kind"] in ("repair", "training") else "RdYlGn"
        ax.imshow(shown, cmap=colours, vmin=0, vmax=1, aspect="auto", alpha=0.7)
        for (y, x), value in np.ndenumerate(shown):
            full = table.rows[y][defenses[x]].text
            text = (
                full.partition(":")[0].replace(" not ", "\nnot ")
                if np.isnan(value)
                else (full.partition(" ")[0])
            )
            written = ax.text(x, y, text, ha="center", va="center", fontsize=8)
            written.set_in_layout(False)  # within its square: hundreds need no measuring
        ax.set_xticks(range(len(defenses)), defenses, rotation=35, ha="right", fontsize=8)
        ax.set_yticks(range(len(attacks)), attacks, fontsize=8)
        ax.set_title(table.title, fontsize=9)
    figure.suptitle(
        f"Attack by defense, mean over seeds {seeds_of(records)} ({datasets_of(records)})"
    )
    return figure


def before_and_after(repaired: Measured, nulls: Sequence[Series] = ()) -> Figure:
    """Clean accuracy and ASR of each attack before and after a repair, mean over seeds.

    Of a training: of the plainly trained victim, and of what the defense trained. ``nulls``: the
    null baselines' own series, of which each is a dashed line across the bars of its attack.
    """
    taken = Taken(repaired)
    shown = [series for series in repaired.series if series.figures]
    trained = shown[0].kind == "training"
    before, after = ("plain training", "this training") if trained else ("before", "after")
    failures = [taken.failure(series).partition(":")[0] for series in shown]
    names = [
        f"{_in_lines(s.attack)}\n{why}".strip() for s, why in zip(shown, failures, strict=True)
    ]
    deepest = max(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(max(9, 2.2 * len(shown)), 3.4))
    place = np.arange(len(shown))
    for ax, metric, title in zip(
        figure.subplots(1, 2), ("clean_accuracy", "asr"), ("clean accuracy", "ASR"), strict=True
    ):
        for shift, column, colour, label in (
            (-0.2, f"{metric}_before", "#b0b7c3", before),
            (0.2, metric, CLEAN if metric == "clean_accuracy" else POISON, after),
        ):
            found = [series.figures.get(column) for series in shown]
            heights = [100 * one.mean if one else np.nan for one in found]
            bars = ax.bar(place + shift, heights, 0.38, color=colour, label=label)
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            ax.bar_label(bars, fmt="%.1f", fontsize=7, padding=1, bbox=behind)
        _lines(ax, metric, [series.attack for series in shown], nulls)
        ax.set_xticks(place, names, fontsize=8)
        ax.set_ylim(0, 112)
        ax.set_ylabel(f"{title} (%)")
        below = (0.5, -0.05 * (1 + deepest))
        ax.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=below, frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{'Plain training and' if trained else 'Before and after'} {shown[0].defense} "
        f"({datasets_of(repaired.records)}, seeds {seeds_of(repaired.records)})"
    )
    return figure


def _lines(ax: Axes, metric: str, attacks: Sequence[str], nulls: Sequence[Series]) -> None:
    """A dashed line for each null, over the bars of each attack that it was measured on."""
    names = list(dict.fromkeys(null.cell.defense for null in nulls))
    for name, colour in zip(names, itertools.cycle(NULLS), strict=False):
        measured = {n.attack: n.figures[metric].mean for n in nulls
                    if n.cell.defense == name and metric in n.figures}  # fmt: skip
        at = [place for place, attack in enumerate(attacks) if attack in measured]
        heights = [100 * measured[attacks[place]] for place in at]
        left, right = ([place + side for place in at] for side in (-0.42, 0.42))
        ax.hlines(heights, left, right, colors=colour, linestyles="dashed", linewidth=1.2,
                  label=f"{name} (null)")  # fmt: skip


def trajectory(records: Sequence[Record]) -> Figure:
    """Clean accuracy and ASR along a repair's trajectory, before its last step; mean over seeds."""
    attacks = list(dict.fromkeys(r.cell.attack for r in records))
    figure = Figure(figsize=(2.9 * len(attacks) + 0.6, 3.1))
    axes = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
    for ax, attack in zip(axes, attacks, strict=True):
        of_attack = [r for r in records if r.cell.attack == attack]
        points = pd.DataFrame([p for r in of_attack for p in r.details["trajectory"]])
        means = estimates(points.melt("at", var_name="metric"), "metric", "at")
        steps = sorted(set(points["at"]))
        for metric, colour, label in (
            ("clean_accuracy", CLEAN, "clean accuracy"),
            ("asr", POISON, "ASR"),
        ):
            ax.plot(
                steps, [100 * means[metric, at].mean for at in steps], color=colour, label=label
            )
        stops = [r.details["report"].get("pruned") for r in of_attack]
        for stop in stops:
            if isinstance(stop, int):
                ax.axvline(stop, color="#888888", linewidth=0.8, linestyle=":")
        ax.set_title(attack)
        ax.set_xlabel(records[0].details["trajectory_label"])
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("%")
    axes[0].legend(fontsize=8)
    figure.suptitle(
        f"Along the trajectory of {records[0].cell.defense}, without its fine-tuning; dotted: "
        f"where it stopped ({datasets_of(records)}, seeds {seeds_of(records)})",
        y=1.04,
    )
    return figure


def points_of(stored: dict[str, Any]) -> NDArray[np.float64]:
    """[N, 2] from what `bench.judge` put into the record."""
    packed = np.frombuffer(base64.b64decode(stored["int16"]), dtype="<i2")
    return packed.reshape(-1, 2).astype(np.float64) * (float(stored["scale"]) / 32767)


def marks_of(stored: str, count: int) -> NDArray[np.bool_]:
    """bool [N] from what `bench.judge` put into the record."""
    packed = np.frombuffer(base64.b64decode(stored), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def images_of(stored: dict[str, Any]) -> NDArray[np.float64]:
    """[N, H, W, C] in [0, 1] from what `bench.judge` put into the record."""
    data = np.frombuffer(base64.b64decode(stored["uint8"]), dtype=np.uint8)
    return data.reshape(stored["shape"]).transpose(0, 2, 3, 1) / 255
