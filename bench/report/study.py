"""The seed study's own table: what it claims of each attack, and what was measured.

Its claims say what the study is made of: its attacks, the plainest first, and its defenses.
"""

from __future__ import annotations

from bench.analysis.provenance import commands, seeds_of
from bench.analysis.series import Measured, Series
from bench.analysis.squares import show
from bench.analysis.studies import largest_first
from bench.analysis.taken import Taken
from bench.expected import claims
from bench.expected.claims import claim, notebook
from bench.report.markdown import table
from bench.spec.cell import Kind, kind_of
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.errors import BenchError


def attacks() -> list[str]:
    """The study's attacks, in the order of its levels: level 1 first."""
    return list(claims.study().attack)


def defenses(kind: Kind) -> list[str]:
    """The study's defenses of a kind, ``detection`` or ``repair``."""
    return [name for name in claims.study().defense if name in DEFENSES and kind_of(name) == kind]


def level_of(kind: Kind) -> int | None:
    """The level of the study that a kind of defense stands at: after those of its attacks.

    None for a kind that the study has not.
    """
    order: tuple[Kind, ...] = ("detection", "repair")
    return len(attacks()) + 1 + order.index(kind) if kind in order else None


def markdown(measured: Measured) -> str:
    """The study's table, of the largest data set measured. Raises BenchError where none is."""
    names = attacks()
    ordered = largest_first(measured).series
    found = [s for s in ordered if s.cell.uses_defaults and s.cell.attack in names]
    if not found:
        raise BenchError(f"no records of the study's attacks ({', '.join(names)})")
    largest = found[0].study
    some = measured.only(series for series in found if series.study == largest).of_one_identity
    taken = Taken(some)
    by_attack = {name: [s for s in some.series if s.cell.attack == name] for name in names}
    shown = [_row(name, own, taken) for name, own in by_attack.items() if own]
    note = (
        f"{' / '.join(largest)}, mean over seeds ± half the 95 % interval (Student's t). "
        f"Made by {commands(some.records)}."
    )
    contradicted = [f"{name}: {text}" for name in _named() if (text := notebook(name))]
    return "\n\n".join([table(shown), note, f"What its notebooks show: {'. '.join(contradicted)}."])


def _row(attack: str, own: list[Series], taken: Taken) -> dict[str, str]:
    """One attack: claimed, measured, detected, repaired; only the first two if it did not take."""
    by_defense = {series.cell.defense: series for series in own}
    attacked = by_defense.get("none")
    failed = taken.failure(attacked) if attacked else taken.failure(*own)
    row = {
        "attack": attack,
        "the study claims": claim(attack, "none"),
        METRICS["clean_accuracy"].heading: _mean("clean_accuracy", attacked),
        METRICS["asr"].heading: failed or _mean("asr", attacked),
    }
    for name in defenses("detection"):
        row[f"F1, {name}"] = "" if failed else _mean("f1", by_defense.get(name))
    for name in defenses("repair"):
        for metric in ("clean_accuracy", "asr"):
            title, unit = METRICS[metric].title, METRICS[metric].unit
            figure = "" if failed else _mean(metric, by_defense.get(name))
            row[f"{title} after {name} ({unit})"] = figure
    return {**row, "seeds": seeds_of(record for series in own for record in series.records)}


def _mean(metric: str, series: Series | None) -> str:
    """Over the seeds of one cell; nothing where none was run."""
    return show(metric, series.figures.get(metric)) if series else ""


def _named() -> list[str]:
    return [*claims.study().attack, *claims.study().defense]
