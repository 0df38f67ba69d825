"""What the pages of an axis have in common: how they are written, completed and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.axis import Point
from bench.analysis.statistics import Estimate
from bench.report import tables
from bench.report.figures import file_of, png
from bench.runtime import files


def complete(points: Sequence[Point], axis: str) -> str:
    """How many cells are lacking: every attack and defense at every value, with as many seeds."""
    sides = ({point[name] for point in points} for name in ("attack", "defense", axis))
    attacks, defenses, values = map(len, sides)
    seeds = max(point["seeds"] for point in points)
    whole, have = attacks * defenses * values * seeds, sum(point["seeds"] for point in points)
    return f"{have} of {whole} cells, {whole - have or 'none'} lacking."


def line(
    ax: Axes,
    at: Sequence[float],
    found: Sequence[Estimate | None],
    scale: float = 100.0,
    **style: Any,
) -> None:
    """Means with bars for their 95 % intervals, by default in per cent; nothing where none is."""
    if any(found):
        mean = [scale * e.mean if e else np.nan for e in found]
        ends = [e.interval or (e.mean, e.mean) if e else (np.nan, np.nan) for e in found]
        bars = np.abs(scale * np.array(ends).T - mean)
        ax.errorbar(at, mean, yerr=bars, marker="o", markersize=3, linewidth=1.4, capsize=2,
                    **style)  # fmt: skip


def write(
    studies: Mapping[str, list[Point]],
    folder: Path,
    name: str,
    heading: str,
    note: str,
    draw: Callable[[str, Sequence[Point]], Mapping[str, Figure]],
    markdown: Callable[[Sequence[Point]], str],
) -> list[Path]:
    """Write ``name.md``, ``.csv`` and the figures of each study; nothing where there is no study.

    ``draw``: (study, its points) -> figures by what their files' names end in.
    """
    if not studies:
        return []
    parts, written = [f"# {heading}", ""], []
    for study, points in studies.items():
        parts += [f"## {study}", ""]
        for topic, figure in draw(study, points).items():
            dataset, _, model = study.partition(" / ")
            path = folder / file_of((dataset, model), topic)
            written.append(files.write(path, png(figure)))
            parts += [f"![{heading}: {topic}]({path.name})", ""]
        parts.append(markdown(points))
    flat = [tables.flat(point) for points in studies.values() for point in points]
    return [
        files.write(folder / f"{name}.md", "\n".join([*parts, note, ""])),
        files.write(folder / f"{name}.csv", pd.DataFrame(flat).to_csv(index=False)),
        *written,
    ]
