"""An audit for people: Markdown, and a page with its pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

import torch
from torch import Tensor

from bench.analysis import trust
from bench.analysis.odds import LEVEL
from bench.auditing.examine import Finding
from bench.auditing.outcome import VERDICTS, Audit
from bench.report.markdown import table
from fixtures.exchange import png
from fixtures.images import ImageSet, to_bytes

SHOWN = 4
"""Images on which a recovered trigger is shown."""

STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto}td,th{padding:.3em;"
    "text-align:left;vertical-align:top}img{image-rendering:pixelated;width:32em}"
)


def markdown(audit: Audit) -> str:
    """The verdict first, then what each detector says and how far it can be trusted."""
    lines = [f"# {audit.model}: {audit.verdict}", "", *said(audit), ""]
    return "\n".join([*lines, table([row(audit, one) for one in audit.findings]), ""])


def page(audit: Audit, shown: Mapping[str, bytes]) -> str:
    """The same as HTML. ``shown``: PNGs by detector, see `pictures`."""
    title = html.escape(f"{audit.model}: {audit.verdict}")
    told = "".join(f"<p>{html.escape(line)}</p>" for line in said(audit))
    rows = [row(audit, one) for one in audit.findings]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0]) if rows else ""
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in one.values())}</tr>"
        for one in rows
    )
    images = "".join(
        f"<h2>{html.escape(name)}: the trigger it recovered, on clean images</h2>"
        f"<img alt='clean images, and with the trigger' src='data:image/png;base64,"
        f"{base64.b64encode(png).decode()}'>"
        for name, png in shown.items()
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1>{told}<table><tr>{head}</tr>{body}</table>{images}\n"
    )


def said(audit: Audit) -> list[str]:
    """What the verdict rests on, a paragraph each."""
    guessed = ", guessed from the images" if audit.guessed else ""
    lines = [
        f"It is a {audit.form}; images are taken {audit.how.name}{guessed}; the model is "
        f"right on {100 * audit.accuracy:.1f} % of the clean ones."
    ]
    judgement, zoo = audit.judgement, audit.zoo
    if judgement.chance is None:
        return [*lines, "No detector of models could judge it."]
    silent = [name for name in zoo.detectors if name not in judgement.by_detector]
    if silent:
        lines.append(
            f"Without {', '.join(silent)}: what the rule is worth was measured with all of them."
        )
    alarms, found = trust.false_alarms(zoo.rule), trust.found(zoo.rule)
    return [
        f"All detectors of models together: {_percent(judgement.chance)} of clean models look as "
        f"suspicious; under {100 * LEVEL:.0f} % a model is called backdoored.",
        f"What this rule is worth, on models that it has not seen: on {zoo.dataset} "
        f"({', '.join(zoo.models)}) it calls {trust.share(alarms)} clean ones backdoored, and "
        f"{trust.share(found)} backdoored ones. Attacks that it cannot tell from clean models: "
        f"{', '.join(trust.blind_to(zoo.rule)) or 'none'}.",
        *lines,
    ]


def _percent(chance: float) -> str:
    """``43.0 %``; what is less than a tenth of one is not told further."""
    return "under 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"


def row(audit: Audit, one: Finding) -> dict[str, str]:
    """One detector in the table."""
    known = audit.zoo.detectors.get(one.detector)
    chance = audit.judgement.by_detector.get(one.detector)
    verdict = VERDICTS[one.backdoored]
    return {
        "detector": one.detector,
        "looks at": one.flavour,
        "its own verdict": f"{verdict}: {one.reason}" if one.reason else verdict,
        "accused": audit.accused(one),
        "says": one.says,
        "clean models as suspicious": "" if chance is None else _percent(chance),
        "clean models it accuses": trust.share(trust.false_alarms(known.own)) if known else "",
        "backdoored ones it finds": trust.share(trust.found(known.own)) if known else "",
        "blind to": ", ".join(trust.blind_to(known.own)) if known else "",
    }


def pictures(audit: Audit, clean: ImageSet) -> dict[str, bytes]:
    """PNGs by detector: some clean images of other classes, and below them with the trigger."""
    return {
        one.detector: png(to_bytes(_stamped(one, clean)))
        for one in audit.findings
        if one.mask is not None and one.pattern is not None
    }


def _stamped(one: Finding, clean: ImageSet) -> Tensor:
    others = (clean.labels != one.suspects[0]).nonzero().flatten()
    images = clean.batch(others[:: max(1, len(others) // SHOWN)][:SHOWN])
    stamped = torch.lerp(images, torch.tensor(one.pattern), torch.tensor(one.mask))
    return torch.cat([torch.cat(list(some), 2) for some in (images, stamped)], 1)
