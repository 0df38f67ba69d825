"""Which attacks took: an attack that gave its victim no backdoor proves nothing of a defense."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean

from bench.spec.metrics import METRICS, TAKES
from bench.store.records import Record

Asr = Callable[[Record], "float | None"]
"""The ASR of a record's victim as it was attacked; None where no record tells."""


def asr_among(records: Iterable[Record]) -> Asr:
    """Looks an ASR up: in the record itself, else in the attack's own record of the same victim."""
    own = {r.cell.id: r.metrics["asr"] for r in records if r.kind == "attack"}

    def asr(record: Record) -> float | None:
        if record.kind == "attack":
            return record.metrics.get("asr")
        return record.metrics.get("asr_before", own.get(record.cell.undefended.id))

    return asr


def not_taken(group: Iterable[Record], asr: Asr) -> str:
    """``did not take: ASR 7 %``, by the mean over a cell's seeds; empty for one that took.

    Of clean models, and where no ASR is known, nothing is said.
    """
    found = list(group)
    known = [value for value in map(asr, found) if value is not None]
    if found[0].cell.attack == "none" or not known or fmean(known) >= TAKES:
        return ""
    return f"did not take: {METRICS['asr'].title} {100 * fmean(known):.0f} %"
