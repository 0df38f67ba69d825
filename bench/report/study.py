"""The seed study's own table: what it claims of each attack, and what was measured.

``claims.toml`` says what the study is made of: its attacks, the plainest first, and its defenses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.analysis import ranking
from bench.analysis.taken import asr_among, not_taken
from bench.report import tables
from bench.report.markdown import table
from bench.runtime import files
from bench.spec.cell import Kind, kind_of
from bench.spec.metrics import METRICS
from bench.store.records import Record
from defenses import DEFENSES
from fixtures.errors import BenchError


def attacks() -> list[str]:
    """The study's attacks, in the order of its levels: level 1 first."""
    return list(_claims()["attack"])


def defenses(kind: Kind) -> list[str]:
    """The study's defenses of a kind, ``detection`` or ``repair``."""
    return [name for name in _claims()["defense"] if name in DEFENSES and kind_of(name) == kind]


def level_of(kind: Kind) -> int:
    """The level of the study that a kind of defense stands at: after those of its attacks."""
    order: tuple[Kind, ...] = ("detection", "repair")
    return len(attacks()) + 1 + order.index(kind)


def markdown(records: Sequence[Record]) -> str:
    """The study's table, of the largest data set measured. Raises BenchError where none is."""
    plain = [r for r in records if r.cell.uses_defaults and r.cell.attack in attacks()]
    if not plain:
        raise BenchError(f"no records of the study's attacks ({', '.join(attacks())})")
    largest = ranking.study_of(ranking.largest_first(plain)[0].cell)
    some = tables.of_one_identity(r for r in plain if ranking.study_of(r.cell) == largest)
    shown = [_row(name, some) for name in attacks() if any(r.cell.attack == name for r in some)]
    note = (
        f"{' / '.join(largest)}, mean over seeds ± half the 95 % interval (Student's t). "
        f"Made by {tables.commands(some)}."
    )
    contradicted = [f"{name}: {text}" for name in _named() if (text := tables.notebook(name))]
    return "\n\n".join([table(shown), note, f"What its notebooks show: {'. '.join(contradicted)}."])


def _row(attack: str, records: list[Record]) -> dict[str, str]:
    """One attack: claimed, measured, detected, repaired; only the first two if it did not take."""
    own = [r for r in records if r.cell.attack == attack]
    attacked = [r for r in own if r.kind == "attack"]
    failed = not_taken(attacked or own, asr_among(records))
    row = {
        "attack": attack,
        "the study claims": tables.claim(attack, "none"),
        METRICS["clean_accuracy"].heading: _mean("clean_accuracy", "none", own),
        METRICS["asr"].heading: failed or _mean("asr", "none", own),
    }
    for name in defenses("detection"):
        row[f"F1, {name}"] = "" if failed else _mean("f1", name, own)
    for name in defenses("repair"):
        for metric in ("clean_accuracy", "asr"):
            title, unit = METRICS[metric].title, METRICS[metric].unit
            row[f"{title} after {name} ({unit})"] = "" if failed else _mean(metric, name, own)
    return {**row, "seeds": tables.seeds_of(own)}


def _mean(metric: str, defense: str, records: Iterable[Record]) -> str:
    """Over the seeds of one defense's cells; nothing where none was run."""
    some = [r for r in records if r.cell.defense == defense and metric in r.metrics]
    return tables.show(metric, tables.estimate([r.metrics[metric] for r in some])) if some else ""


def _named() -> list[str]:
    return [name for part in _claims().values() for name in part]


@lru_cache(maxsize=1)
def _claims() -> dict[str, Any]:
    return files.read_toml(Path(__file__).with_name("claims.toml"))
