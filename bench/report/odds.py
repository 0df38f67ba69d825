"""What an audit knows of its own errors, as Markdown."""

from __future__ import annotations

from bench.analysis import odds, trust
from bench.analysis.odds import Zoo
from bench.report.markdown import table
from bench.spec.cell import level_of


def markdown() -> str:
    """A table for each setting: the rule and each detector, on clean models and by attack."""
    if not odds.FILE.exists():
        return "No zoo is measured yet."
    return "\n\n".join(part for zoo in odds.zoos() for part in (_said(zoo), table(_rows(zoo))))


def _said(zoo: Zoo) -> str:
    usual = max(one.usual.models for one in zoo.detectors.values())
    return (
        f"**{zoo.dataset}** ({', '.join(zoo.models)}): {usual} clean models say what is usual, "
        f"and none of them is below. Of all backdoored models the rule calls "
        f"{trust.share(trust.found(zoo.rule))} backdoored, of clean ones "
        f"{trust.share(trust.false_alarms(zoo.rule))}, in brackets Wilson's 95 % interval."
    )


def _rows(zoo: Zoo) -> list[dict[str, str]]:
    """Clean models first, then attacks by stealth."""
    attacks = sorted(zoo.rule, key=lambda name: (name != trust.CLEAN, level_of(name), name))
    return [
        {
            "models": "clean" if attack == trust.CLEAN else attack,
            "called backdoored": trust.share(zoo.rule[attack]),
            "AUROC": f"{zoo.auroc[attack]:.2f}" if attack in zoo.auroc else "",
            **{
                name: trust.share(one.own[attack]) if attack in one.own else ""
                for name, one in zoo.detectors.items()
            },
        }
        for attack in attacks
    ]
