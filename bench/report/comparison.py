"""A comparison with a baseline as people read it: lines, a verdict, a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.analysis.baseline import VERDICTS, Comparison, failing
from fixtures.errors import BenchError


def verdict_line(found: Sequence[Comparison], *, strict: bool) -> str:
    counts = {v: sum(c.verdict == v for c in found) for v in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{'FAIL' if failing(found, strict=strict) else 'PASS'}: {told or 'nothing to compare'}"


def lines(found: Iterable[Comparison]) -> list[str]:
    """A line for each cell that is not simply as it was."""
    told = []
    for comparison in _sorted(found):
        if comparison.verdict != "ok":
            why = f": {'; '.join(comparison.why)}" if comparison.why else ""
            changed = f" [changed: {', '.join(comparison.changed)}]" if comparison.changed else ""
            told.append(f"{comparison.verdict:14} {comparison.name}{why}{changed}")
    return told


def markdown(found: Sequence[Comparison], *, strict: bool) -> str:
    """The comparison as people read it in a pull request."""
    frame = pd.DataFrame(
        [
            {
                "cell": c.name,
                "verdict": c.verdict,
                "why": "; ".join(c.why),
                "changed since": ", ".join(c.changed),
            }
            for c in _sorted(found)
        ]
    )
    table = frame.to_markdown(index=False, disable_numparse=True) if len(frame) else ""
    return f"### triggerbench: {verdict_line(found, strict=strict)}\n\n{table}\n"


def _sorted(found: Iterable[Comparison]) -> list[Comparison]:
    return sorted(found, key=lambda c: VERDICTS.index(c.verdict))


def append_step_summary(text: str) -> None:
    """Append to GitHub's summary of a step, where there is one. Raises BenchError."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with Path(path).open("a") as file:
            file.write(text + "\n")
    except OSError as error:
        raise BenchError(f"$GITHUB_STEP_SUMMARY: cannot write {path}: {error.strerror}") from error
