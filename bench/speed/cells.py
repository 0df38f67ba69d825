"""What attacks and defenses took in the committed records, and each study as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from bench.analysis.frame import study_of
from bench.runtime.environment import CHECKOUT
from bench.speed.clock import table
from bench.store import records
from bench.store.records import Record

RESULTS = CHECKOUT / "results"
NOT_STUDIES = {"models", "sweep", "tuning"}
"""Folders of one attack or defense at many settings."""

Study = tuple[str, str, str]
"""Data set, model, and the processor with its threads: times of two are not put together."""


def measure(_data: Path | None, _repeats: int) -> list[str]:
    """Reads timings that were taken when the cells were measured; runs nothing."""
    folders = [path for path in records.studies(RESULTS) if path.name not in NOT_STUDIES]
    found = [record for path in folders for record in records.load_all(path)]
    return lines(record for record in found if record.cell.split == "test")


def lines(found: Iterable[Record]) -> list[str]:
    """Two tables of times and one of studies, in Markdown."""
    together: dict[Study, list[Record]] = defaultdict(list)
    for record in found:
        together[study(record)].append(record)
    trained = {name: _spent(some, "attack", "train_s") for name, some in together.items()}
    defended = {name: _spent(some, "defense", "defend_s") for name, some in together.items()}
    return [
        "Seconds in the committed records, the median over cells and seeds: what training the "
        "victim took, then what a defender's own work did. Neither start-up nor the referee is in "
        "them.",
        "",
        *table(_rows("attack", trained)),
        "",
        *table(_rows("defense", defended)),
        "",
        "Everything that a study took, without start-up and the victims of other seeds that "
        "learned triggers are tried on:",
        "",
        *table([_whole(name, some) for name, some in together.items()]),
    ]


def study(record: Record) -> Study:
    cpu, threads = record.environment["cpu"], record.environment["threads"]
    return (*study_of(record.cell), f"{cpu}, {threads} thread{'s' * (threads != 1)}")


def _spent(some: Iterable[Record], by: str, phase: str) -> Mapping[str, list[float]]:
    """Seconds of a phase, by attack or defense; a victim is trained once for all its cells."""
    spent: dict[str, list[float]] = defaultdict(list)
    for record in some:
        if (record.cell.defense == "none") == (by == "attack") and not record.not_applicable:
            spent[getattr(record.cell, by)].append(record.timings[phase])
    return spent


def _rows(what: str, spent: Mapping[Study, Mapping[str, list[float]]]) -> list[dict[str, str]]:
    """A row for each plugin, a column for each study."""
    names = sorted({name for of_study in spent.values() for name in of_study})
    return [
        {
            what: name,
            **{
                " / ".join(study): f"{median(of_study[name]):.1f}" if name in of_study else ""
                for study, of_study in spent.items()
            },
        }
        for name in names
    ]


def _whole(study: Study, some: Iterable[Record]) -> dict[str, str]:
    some = list(some)
    sums = {
        "training": sum(r.timings["train_s"] for r in some if r.cell.defense == "none"),
        "defending": sum(r.timings.get("defend_s", 0.0) for r in some),
        "measuring": sum(r.timings.get("measure_s", 0.0) for r in some),
    }
    sums["in all"] = sum(sums.values())
    hours = {name: f"{seconds / 3600:.2f} h" for name, seconds in sums.items()}
    return {"study": " / ".join(study), "cells": str(len(some)), **hours}
