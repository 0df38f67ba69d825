"""Claims as tables: who says it, the bound that was fixed beforehand, what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.analysis.claims import Standing, counted
from bench.analysis.provenance import seeds_of
from bench.analysis.series import Series
from bench.analysis.squares import show
from bench.analysis.statistics import Estimate
from bench.expected.study import study
from bench.report.markdown import table
from bench.spec.metrics import METRICS

Row = dict[str, object]
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
    """The seed study's claims as a README has room for: one row for all attacks that share one."""
    shared: dict[tuple[object, ...], tuple[Row, list[Standing]]] = {}
    for standing in found:
        if standing.claim.level:
            row = _row(standing)
            of = standing.attack if standing.defense == "none" else standing.defense
            key = of, row["the study says"], row["bound"]
            shared.setdefault(key, (row, []))[1].append(standing)
    return table([_together(row, group) for row, group in shared.values()]) if shared else ""


def _together(first: Row, group: Sequence[Standing]) -> Row:
    """One row for some attacks; each with its means alone where they are several."""
    row = {name: first[name] for name in BRIEF}
    if len(group) == 1:
        return row
    means = [f"{one.attack} {one.failure or _figures(one, one.series, _mean)}" for one in group]
    others = [f"{one.attack} {one.state}" for one in group if one.state != "met"]
    alike = len({one.state for one in group}) == 1
    return row | {
        "of": group[0].defense,
        "measured here": ", ".join(means),
        "state": group[0].state if alike else f"met, but {', '.join(others)}",
    }


def _row(standing: Standing) -> Row:
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
    measured = _figures(standing, standing.series)
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


def _figures(
    standing: Standing,
    series: Series | None,
    text: Callable[[str, Estimate | None], str] = show,
) -> str:
    """Those that the claim bounds; empty where there is no series. ``text``: of one."""
    if series is None:
        return ""
    return " / ".join(text(one.metric, series.figures.get(one.metric)) for one in standing.bounds)


def _mean(metric: str, figure: Estimate | None) -> str:
    return METRICS[metric].show(figure.mean) if figure else ""


def _usual(standing: Standing) -> str:
    """The same figures with as many clean images as the data set's default."""
    series = None if standing.failure else standing.usual
    return f"{_budget(series.clean)}: {_figures(standing, series)}" if series else ""
