"""The seed study: what it is made of, and the table of its claims."""

from __future__ import annotations

from bench.analysis.claims import counted, standings
from bench.analysis.provenance import commands
from bench.analysis.series import Measured
from bench.analysis.studies import largest_first
from bench.expected.study import study
from bench.report import claims
from bench.spec.cell import Kind, kind_of
from defenses import DEFENSES
from fixtures.errors import BenchError


def attacks() -> list[str]:
    """The study's attacks, in the order of its levels: level 1 first."""
    return list(study().attack)


def defenses(kind: Kind) -> list[str]:
    """The study's defenses of a kind, ``detection`` or ``repair``."""
    return [name for name in study().defense if name in DEFENSES and kind_of(name) == kind]


def level_of(kind: Kind) -> int | None:
    """The level of the study that a kind of defense stands at: after those of its attacks.

    None for a kind that the study has not.
    """
    order: tuple[Kind, ...] = ("detection", "repair")
    return len(attacks()) + 1 + order.index(kind) if kind in order else None


def markdown(measured: Measured) -> str:
    """The study's claims in brief. Raises BenchError where none of it was measured."""
    found = [s for s in standings(largest_first(measured)) if s.claim.level]
    if not found:
        raise BenchError(f"no records of what the study claims (of {', '.join(attacks())})")
    behind = [
        record
        for standing in found
        for series in (standing.series, standing.usual)
        if series
        for record in series.records
    ]
    note = (
        f"Of these claims {counted(found)}, by the mean over seeds. Bounds and their reasons: "
        f"bench/expected/{found[0].dataset}.toml. Made by {commands(behind)}."
    )
    return "\n\n".join([claims.in_brief(found), note])
