"""Claims as tables: who says it, the bound that was fixed beforehand, what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.analysis.claims import Standing, counted
from bench.analysis.provenance import seeds_of
from bench.analysis.series import Series
from bench.analysis.squares import show
from bench.expected.study import study
from bench.report.markdown import table
from bench.spec.metrics import METRICS

BRIEF = ("of", "the study says", "measured here", "bound", "state")
"""Columns of the study's claims in brief."""


def section(found: Sequence[Standing]) -> Iterable[str]:
    """The part of a report: the study's claims beside its notebooks, then all others."""
    if not found:
        return
    yield "## Claims"
    yield ""
    yield (
        f"{counted(found)}. A claim was fixed before it was measured; it may stand red, and fails "
        "nothing."
    )
    yield ""
    for part in (of_study(found), markdown([s for s in found if not s.claim.level])):
        if part:
            yield part
            yield ""


def markdown(found: Sequence[Standing]) -> str:
    """A row for each claim about a cell; empty for none."""
    rows = [
        {"who says it": standing.claim.source, "of": _cell(standing), **_judged(standing)}
        for standing in found
    ]
    return table(rows) if rows else ""


def of_study(found: Sequence[Standing]) -> str:
    """The seed study's claims, level by level: its figure, its notebook's, and ours."""
    rows = [_row(standing) for standing in found if standing.claim.level]
    return table(rows) if rows else ""


def in_brief(found: Sequence[Standing]) -> str:
    """The seed study's claims in the columns that a README has room for."""
    rows = [_row(standing) for standing in found if standing.claim.level]
    return table([{name: row[name] for name in BRIEF} for row in rows]) if rows else ""


def _row(standing: Standing) -> dict[str, object]:
    told = study().of(standing.attack, standing.defense)
    return {
        "level": standing.claim.level,
        "of": _cell(standing),
        "the study says": told.says if told else "",
        "its notebook shows": told.notebook if told else "",
        **_judged(standing),
        "at the default": _usual(standing),
    }


def _cell(standing: Standing) -> str:
    """``blur``, or ``blur, fine_pruning``."""
    return standing.attack + ("" if standing.defense == "none" else f", {standing.defense}")


def _judged(standing: Standing) -> dict[str, str]:
    """What was measured and with what, what is asked, how it stands."""
    titles = " / ".join(METRICS[bound.metric].title for bound in standing.bounds)
    measured = _figures(standing, standing.series) if standing.series else ""
    return {
        "clean images a class": "" if standing.defense == "none" else _budget(standing.claim.clean),
        "figure": titles,
        "measured here": standing.failure or measured,
        "seeds": seeds_of(standing.series.records) if standing.series else "",
        "bound": " / ".join(map(str, standing.bounds)),
        "state": standing.state,
    }


def _budget(clean: int | None) -> str:
    return "all" if clean is None else str(clean)


def _figures(standing: Standing, series: Series) -> str:
    return " / ".join(
        show(bound.metric, series.figures.get(bound.metric)) for bound in standing.bounds
    )


def _usual(standing: Standing) -> str:
    """The same figures with as many clean images as the data set's default."""
    series = None if standing.failure else standing.usual
    return f"{_budget(series.clean)}: {_figures(standing, series)}" if series else ""
