"""Published figures beside ours, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.headline import HEADLINE
from bench.analysis.parity import GONE, TOOK, Row, parity
from bench.analysis.provenance import commands, seeds_of
from bench.analysis.series import Measured
from bench.analysis.squares import show
from bench.expected.published import Setting
from bench.report.markdown import table
from bench.spec.metrics import METRICS


def markdown(measured: Measured) -> str:
    """A section for each setting."""
    parts = [part for setting, rows in parity(measured) for part in _section(setting, rows)]
    note = (
        f"Effect: an attack published with an ASR of {100 * TOOK:.0f} % or more has as much here; "
        f"a repair published to leave {100 * GONE:.0f} % or less leaves no more here."
    )
    return "\n\n".join([*parts, note])


def _section(setting: Setting, rows: Sequence[Row]) -> list[str]:
    ours = [row.series for row in rows if row.series]
    if ours:
        records = [record for series in ours for record in series.records]
        here = (
            f"Here: {' / '.join(ours[0].study)}, {ours[0].attack}, seeds {seeds_of(records)}, by "
            f"{commands(records)}."
        )
    else:
        here = "Here: not measured yet."
    return [
        f"### {setting.title}",
        f"Published: {setting.published}. {here}",
        table([_told(row) for row in rows]),
    ]


def _told(row: Row) -> dict[str, str]:
    named = f" ({row.told.name})" if row.told.name else ""
    metrics = [*row.told.metrics] or ([HEADLINE[row.series.flavour]] if row.series else [])
    of = " / ".join(METRICS[metric].heading for metric in metrics)
    ours = row.series.figures if row.series else {}
    apart = row.differences
    return {
        "method": f"{row.told.defense}{named}",
        "of": of,
        "published": row.told.says
        or " / ".join(METRICS[m].show(value) for m, value in row.told.metrics.items()),
        "measured here": " / ".join(show(m, ours.get(m)) for m in metrics) if ours else "",
        "difference": " / ".join(_signed(m, apart[m]) for m in metrics if m in apart),
        "effect": row.effect,
        "what explains it": row.told.why,
    }


def _signed(metric: str, value: float) -> str:
    return f"{'-' if value < 0 else '+'}{METRICS[metric].show(abs(value))}"
