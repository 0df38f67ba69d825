"""The records of one cell that differ in nothing but their seed: what a row of a table is made of.

`measured` is the way from records to figures: it makes the long frame and takes the means over
seeds, once for each write-up; everything after it selects among them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from bench.analysis.frame import flavour, in_order, long
from bench.analysis.statistics import Estimate, estimates
from bench.spec.cell import Cell, Flavour, Kind, Split, flavour_of
from bench.spec.identity import differences, key, without
from bench.store.records import Record
from defenses import DEFENSES

SAME_VICTIMS = ("seed", "clean", "split", "defense", "defense_params", "process", "control",
                "judging", "numpy", "scikit-learn", "scipy", "torchmetrics")  # fmt: skip
"""What the identities of one attack's cells may differ in, and still be of the same victims."""


@dataclass(frozen=True, eq=False)
class Series:
    """``number``: what the frame tells it by. ``name``: the cell's id without its seed. ``key``:
    the hash of the identity without the seed. ``cell``: of its first seed. ``study``: data set and
    model, with the recipe that was asked for; ``attack``, ``defense``: all with their parameters,
    as tables show them. ``records``: one for each seed. ``figures``: metric -> its mean over the
    seeds that have it.
    """

    number: int
    name: str
    key: str
    cell: Cell
    kind: Kind
    study: tuple[str, str]
    attack: str
    defense: str
    records: list[Record]
    figures: dict[str, Estimate]

    @property
    def clean(self) -> int | None:
        """Images of each class that its defender had; see `Record.clean`."""
        return self.records[0].clean

    @property
    def not_applicable(self) -> str:
        """Why its defense does not apply to these victims; empty where it does."""
        return "" if self.figures else self.records[0].not_applicable

    @property
    def is_plain(self) -> bool:
        """Whether attack, defense and budget are at their defaults: those are ranked and drawn."""
        return self.cell.is_plain

    @cached_property
    def flavour(self) -> Flavour:
        """By what was measured, since its plugin may not be loaded."""
        if not self.figures and self.cell.defense in DEFENSES:
            return flavour_of(self.cell.defense)
        return flavour(self.kind, self.figures)

    @cached_property
    def machine(self) -> str:
        """Equal for all that was measured on one kind of machine, with as many threads."""
        return key(self.records[0].identity.get("machine", {}))

    @cached_property
    def defense_version(self) -> str:
        """Equal for one defense, made and measured in the same way, whatever the attack."""
        return key(without(self.records[0].identity, "seed", "attack", "attack_params", "control"))

    @cached_property
    def victim_version(self) -> str:
        """Equal for all that was measured on the same victims."""
        return key(without(self.records[0].identity, *SAME_VICTIMS))


@dataclass(frozen=True, eq=False)
class Measured:
    """``frame``: see `bench.analysis.frame.long`, with a column ``number`` that says which of
    ``series`` a row belongs to.
    """

    frame: pd.DataFrame
    series: list[Series]

    @cached_property
    def records(self) -> list[Record]:
        return [record for series in self.series for record in series.records]

    def only(self, chosen: Iterable[Series]) -> Measured:
        """Some of the series, and their rows."""
        some = list(chosen)
        numbers = [series.number for series in some]
        return Measured(self.frame[self.frame["number"].isin(numbers)], some)

    def of(self, kind: Kind) -> Measured:
        return self.only(s for s in self.series if s.kind == kind)

    @cached_property
    def plain(self) -> Measured:
        return self.only(s for s in self.series if s.is_plain)

    @cached_property
    def of_one_machine(self) -> Measured:
        """Of each study what was measured on the kind of machine that measured most of it.

        A rank or a pair of another kind would say something of the machines.
        """
        measured: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for series in self.series:
            measured[series.study][series.machine] += len(series.records)
        most = {study: kinds.most_common(1)[0][0] for study, kinds in measured.items()}
        return self.only(s for s in self.series if s.machine == most[s.study])

    @cached_property
    def of_one_identity(self) -> Measured:
        """Of each cell the identity with most seeds, the first of equals: these never mix two."""
        chosen: dict[str, Series] = {}
        for series in self.series:
            if series.name not in chosen or len(series.records) > len(chosen[series.name].records):
                chosen[series.name] = series
        return self.only(s for s in self.series if chosen[s.name] is s)


def measured(records: Iterable[Record], split: Split = "test") -> Measured:
    """Records in the order of tables, seeds together, with the figures of every series.

    Only of cells that were judged on ``split``: figures on validation images are for choices, and
    stand in no table, rank, gate or baseline.
    """
    found = in_order(record for record in records if record.cell.split == split)
    frame = long(found)
    together = frame.groupby(["cell", "series"], sort=False)
    frame["number"] = together.ngroup()
    figures: dict[int, dict[str, Estimate]] = {}
    for (number, metric), figure in estimates(
        frame.dropna(subset="value"), "number", "metric"
    ).items():
        figures.setdefault(number, {})[metric] = figure
    firsts: Iterable[Any] = frame.drop_duplicates("number").itertuples()
    series = [
        Series(
            number=one.number,
            name=one.cell,
            key=one.series,
            cell=found[one.record].cell,
            kind=one.kind,
            study=(one.dataset, one.model),
            attack=one.attack,
            defense=one.defense,
            records=[found[position] for position in positions],
            figures=figures.get(one.number, {}),
        )
        for one, positions in zip(firsts, together["record"].unique(), strict=True)
    ]
    return Measured(frame, series)


def mixed(series: Sequence[Series]) -> dict[str, list[str]]:
    """Cells that have more than one series, and what differs between them."""
    by_cell: dict[str, list[Series]] = {}
    for one in series:
        by_cell.setdefault(one.name, []).append(one)
    return {name: _differences(some) for name, some in by_cell.items() if len(some) > 1}


def _differences(series: Sequence[Series]) -> list[str]:
    first, *others = (without(one.records[0].identity, "seed") for one in series)
    return sorted({line for other in others for line in differences(first, other)})
