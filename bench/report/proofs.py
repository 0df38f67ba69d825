"""Certified accuracy against the number of changes, with what attacks of their size really left."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.provenance import datasets_of
from bench.analysis.series import Measured, Series
from bench.expected.proofs import points

MARKS = "osD^vP*X"


def proofs(certified: Measured) -> Figure:
    """A panel for each unit of changes: a line for each defense, marks for each attack.

    Lines: the share of test images that are certainly right, from the clean training set, or from
    any attack's where that was not measured; of the lowest seed. Filled marks: the accuracy on
    untouched images after an attack of as many changes; hollow ones: on triggered images. Crosses:
    what papers publish. ``certified``: of one study, with details of its certificates.
    """
    units = list(dict.fromkeys(_unit(series) for series in certified.series))
    figure = Figure(figsize=(7.2 * len(units) + 0.5, 5.4), layout="constrained")
    for ax, unit in zip(figure.subplots(1, len(units), squeeze=False)[0], units, strict=True):
        some = [series for series in certified.series if _unit(series) == unit]
        _panel(ax, some)
        asked = (some[0].cell.dataset, unit)
        published = [point for point in points() if (point.dataset, point.unit) == asked]
        for place, point in enumerate(published, start=1):  # a line each: they may stand close
            at = (point.changes, 100 * point.accuracy)
            ax.plot(*at, "x", color="black")
            ax.annotate(point.title, at, fontsize=7, ha="right", xytext=(-5, -10 * place),
                        textcoords="offset points")  # fmt: skip
        ax.set_xscale("symlog", linthresh=10)
        ax.set_xlim(left=0)
        ax.set_ylim(0, 102)
        ax.set_xlabel(f"changes of the training set, each one {unit}")
        ax.legend(fontsize=7, loc="lower left")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy (%)")
    figure.suptitle(
        "Certified accuracy (lines), and accuracy after attacks: untouched images (filled), "
        f"triggered ones (hollow)\n({datasets_of(certified.records)}, lowest seed)",
        fontsize=10,
    )
    return figure


def _unit(series: Series) -> str:
    return str(series.records[0].details["certificate"]["unit"])


def _panel(ax: Axes, certified: Sequence[Series]) -> None:
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    attacks = dict.fromkeys(s.attack for s in certified if s.cell.attack != "none")
    marks = dict(zip(attacks, itertools.cycle(MARKS), strict=False))
    defenses = list(dict.fromkeys(series.defense for series in certified))
    for name, colour in zip(defenses, itertools.cycle(colours), strict=False):
        own = [series for series in certified if series.defense == name]
        clean = [series for series in own if series.cell.attack == "none"]
        curve = (clean or own)[0].records[0].details["certificate"]["curve"]
        radii = [point["radius"] for point in curve]
        shares = [100 * point["accuracy"] for point in curve]
        # What is certain within a radius is so up to it, and beyond the largest nothing is.
        ax.step([0, *radii, *radii[-1:]], [*shares[:1], *shares, 0], where="pre", color=colour,
                label=name)  # fmt: skip
        for series in own:
            if series.cell.attack != "none":
                record, mark = series.records[0], marks[series.attack]
                at = record.details["certificate"]["changes_of_the_attack"]
                ax.plot(at, 100 * record.metrics["clean_accuracy"], mark, color=colour)
                ax.plot(at, 100 * record.metrics["ra"], mark, color=colour, markerfacecolor="none")
    for attack, mark in marks.items():
        ax.plot([], [], mark, color="#888888", label=attack)
