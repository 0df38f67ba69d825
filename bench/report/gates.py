"""Regression gates as the file that holds them, ``bench/expected/gates/<data set>.toml``."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.proposals import Proposal


def toml(proposals: Sequence[Proposal], made_of: str) -> str:
    """The file of one data set. ``made_of``: the folders that the records came from."""
    lines = [
        f"# Made by `python -m bench gates {made_of}`, and by nobody's hand; the rule is",
        "# in bench/analysis/proposals.py. A mean that misses its gate has regressed, and fails.",
        "# `clean`: images of each class that the defender has, where it has not all there are.",
    ]
    for clean in sorted({p.clean for p in proposals}, key=lambda clean: clean or 0):
        some = [p for p in proposals if p.clean == clean]
        lines += ["", "[[gates]]", *([] if clean is None else [f"clean = {clean}"])]
        for model in dict.fromkeys(p.model for p in some):
            lines += ["", f'[gates.cells."{model}"]']
            lines += [_line(p) for p in some if p.model == model]
    return "\n".join(lines) + "\n"


def _line(proposal: Proposal) -> str:
    bounds = [f'{b.metric} = "{b.direction} {b.limit:g}"' for b in proposal.bounds]
    return f"{proposal.attack}.{proposal.defense} = {{ {', '.join(bounds)} }}"
