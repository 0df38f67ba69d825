"""Attackers who adapt beside their plain twins, as Markdown."""

from __future__ import annotations

from bench.analysis.duels import ACHIEVED, HALF, LEAST, WORKS, Round, rounds
from bench.analysis.series import Measured
from bench.analysis.squares import show
from bench.report.markdown import table
from bench.spec.metrics import METRICS

REMOVED = "ASR removed (%)"


def markdown(measured: Measured) -> str:
    """A row for each attacker, defense and study."""
    rows = [_told(one) for one in rounds(measured)]
    if not rows:
        return "No duel is measured yet."
    note = (
        f"Held: at an ASR of {100 * WORKS:.0f} % or more the attacker takes away "
        f"{100 * HALF:.0f} % or more of what the defense achieved against its twin with as much "
        "poison. ASR removed: of the ASR that there was; of a TPR at 5 % FPR what is above 5 %. "
        f"Where the defense achieved under {100 * LEAST:.0f} % against the twin there is nothing "
        "to take."
    )
    return f"{table(rows)}\n\n{note}"


def _told(one: Round) -> dict[str, str]:
    metric = ACHIEVED[one.flavour]
    heading = REMOVED if metric == "asr" else METRICS[metric].heading
    return {
        "study": " / ".join(one.study),
        "attacker": one.duel.attack,
        "twin": one.duel.twin,
        "defense": one.defense,
        "ASR of the twin (%)": show("asr", one.plain_asr),
        "ASR (%)": show("asr", one.asr),
        "achieved": heading,
        "against the twin": _share(metric, one.plain),
        "against the attacker": _share(metric, one.adaptive),
        "taken away (%)": "" if one.taken is None else f"{100 * one.taken:.0f}",
        "held": "held" if one.held else f"**no**: {_why(one)}",
    }


def _share(metric: str, value: float) -> str:
    return METRICS[metric].show(value)


def _why(one: Round) -> str:
    if one.asr.mean < WORKS:
        return "the attack does not reach the ASR"
    if one.taken is None:
        return "the defense achieves too little against the twin"
    return "the defense keeps more than half"
