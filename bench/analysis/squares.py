"""Tables of squares, as rankings, heat maps and lists are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.provenance import provenance
from bench.analysis.series import Series
from bench.analysis.statistics import Estimate
from bench.spec.metrics import METRICS
from bench.store.records import Record


@dataclass(frozen=True, slots=True)
class Square:
    """One square of a table: ``value`` to sort by, ``text`` to read, and the records behind it."""

    text: str
    value: float | str | None
    behind: Sequence[Record] = ()

    @property
    def provenance(self) -> str:
        return provenance(self.behind)


EMPTY = Square("", None)

Row = dict[str, Square]


@dataclass
class Table:
    """``rows`` as ranked, best first; ``tags`` beside each are what a page filters by."""

    title: str
    rows: list[Row]
    tags: list[dict[str, str]]
    note: str = ""


def show(metric: str, figure: Estimate | None) -> str:
    """A metric's mean and its 95 % interval: ``98.2 ± 0.3``, or ``99.9 (99.5 to 100.0)`` where its
    two sides differ in what is shown; nothing but the mean where there is no interval.
    """
    if figure is None:
        return ""
    text = METRICS[metric].show
    mean = text(figure.mean)
    if figure.interval is None:
        return mean
    low, high = figure.interval
    below, above = text(figure.mean - low), text(high - figure.mean)
    return f"{mean} ± {above}" if below == above else f"{mean} ({text(low)} to {text(high)})"


def text_square(text: str) -> Square:
    return Square(text, text)


def figure_square(metric: str, series: Series | None, suffix: str = "") -> Square:
    """A series' mean over seeds; an empty square where it was not measured."""
    figure = series.figures.get(metric) if series else None
    if series is None or figure is None:
        return EMPTY
    behind = series.records
    if figure.n < len(behind):
        behind = [record for record in behind if metric in record.metrics]
    return Square(show(metric, figure) + suffix, figure.mean, behind)
