"""Everything that is ranked, by data set and model; and the list of every cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.analysis import claims
from bench.analysis.completeness import NAMES, complete
from bench.analysis.frame import study_of
from bench.analysis.heat import heat_maps
from bench.analysis.plugins import power
from bench.analysis.provenance import commands, seeds_of
from bench.analysis.ranking import rankings
from bench.analysis.series import Measured
from bench.analysis.squares import Row, Square, Table, figure_square, text_square
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS


@dataclass
class Study:
    """The rankings and heat maps of one data set and model, and what they are made of."""

    dataset: str
    model: str
    tables: list[Table]
    heat: list[Table]
    complete: str
    commands: str


def studies(measured: Measured, asked: Iterable[Cell] = ()) -> list[Study]:
    """The largest data set first. ``asked``: see `bench.analysis.completeness.lacking`."""
    plain = largest_first(measured).plain
    wanted = [cell for cell in asked if cell.is_plain]
    found = []
    for name in dict.fromkeys(series.study for series in plain.series):
        every = plain.only(series for series in plain.series if series.study == name)
        some = every.of_one_machine
        cells = [cell for cell in wanted if study_of(cell) == name]
        kinds = {cell.kind for cell in cells} | {series.kind for series in some.series}
        counted = [complete(some, kind, cells) for kind in NAMES if kind in kinds]
        ranked = some.of_one_identity
        found.append(
            Study(
                *name,
                tables=rankings(ranked),
                heat=list(heat_maps(ranked)),
                complete=" ".join([*counted, *_elsewhere(every, some)]),
                commands=commands(some.records),
            )
        )
    return found


def _elsewhere(study: Measured, ranked: Measured) -> list[str]:
    """What is in no rank, since it was measured on another kind of machine than most."""
    left = len(study.records) - len(ranked.records)
    return [f"In no rank: {left} records of another kind of machine."] if left else []


def largest_first(measured: Measured) -> Measured:
    """Data sets by how much their victims learn from, in values, otherwise as they came.

    The larger data set says more, so its figures lead: colour photographs before grey digits.
    """
    sizes: dict[str, int] = {}
    for series in measured.series:
        for record in series.records:
            size = record.poison.get("training_samples", 0) * record.data.get("values", 1)
            sizes[series.study[0]] = max(size, sizes.get(series.study[0], 0))
    ordered = sorted(measured.series, key=lambda series: -sizes[series.study[0]])
    return Measured(measured.frame, ordered)


def every_cell(measured: Measured) -> Table:
    """Every cell, a row for each identity, with all that was measured."""
    ordered = largest_first(measured).series
    said = claims.by_series(claims.standings(measured))
    metrics = [metric for metric in METRICS if any(metric in s.figures for s in ordered)]
    rows, tags = [], []
    for series in ordered:
        dataset, model = series.study
        applies = ", not applicable" if series.not_applicable else ""
        row: Row = {
            "data set": text_square(dataset),
            "model": text_square(model),
            "attack": text_square(series.attack),
            "defense": text_square(series.defense),
            "kind": text_square(series.flavour + applies),
            **{METRICS[metric].heading: figure_square(metric, series) for metric in metrics},
            "claims": text_square(said.get(series.number, "")),
            "seeds": Square(seeds_of(series.records), len(series.records)),
            "identity": text_square(series.key[:8]),
        }
        rows.append(row)
        attack = series.cell.attack
        about = {"dataset": dataset, "attack": attack, "kind": series.flavour}
        tags.append({**about, "power": power(attack)})
    return Table("Every cell", rows, tags)
