"""An audit for programs: JSON, SARIF for code hosts, JUnit XML for test reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from bench.auditing.outcome import VERDICTS, Audit


def as_json(audit: Audit) -> str:
    """All but the pictures."""
    return json.dumps(
        {
            "model": audit.model,
            "form": audit.form,
            "verdict": audit.verdict,
            "chance_of_a_clean_model": audit.judgement.chance,
            "accuracy": audit.accuracy,
            "preprocessing": {"says": audit.preprocessing, "guessed": audit.guessed},
            "nearest_setting": audit.zoo.dataset,
            "detectors": [
                {
                    "name": one.detector,
                    "looks_at": one.flavour,
                    "verdict": VERDICTS[one.backdoored],
                    "reason": one.reason,
                    "says": one.says,
                    "score": one.score,
                    "suspects": [audit.classes[label] for label in one.suspects],
                    "chance_of_a_clean_model": audit.judgement.by_detector.get(one.detector),
                    "seconds": round(one.seconds, 1),
                }
                for one in audit.findings
            ],
        },
        indent=2,
    )


def as_sarif(audit: Audit) -> str:
    """SARIF 2.1.0 (OASIS): a result for the model, and one for each detector that accuses it."""
    rules = [_rule("backdoored-model", "The model looks backdoored")]
    rules += [_rule(one.detector, f"{one.detector} accuses the model") for one in audit.findings]
    results = []
    if audit.backdoored is not False:
        level = "error" if audit.backdoored else "warning"
        results.append(_result(audit, "backdoored-model", level, f"{audit.model} {audit.verdict}"))
    for one in audit.findings:
        if one.backdoored:
            text = f"{one.detector} accuses {audit.accused(one) or 'the model'}. {one.says}"
            results.append(_result(audit, one.detector, "warning", text.strip()))
    driver = {"name": "triggerbench audit", "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, indent=2)


def _rule(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "shortDescription": {"text": text}}


def _result(audit: Audit, rule: str, level: str, text: str) -> dict[str, Any]:
    where = {"physicalLocation": {"artifactLocation": {"uri": audit.model}}}
    return {"ruleId": rule, "level": level, "message": {"text": text}, "locations": [where]}


def as_junit(audit: Audit) -> str:
    """A test case for the verdict and one for each detector of models."""
    cases = [("verdict", audit.backdoored, audit.verdict)]
    cases += [(o.detector, o.backdoored, o.says or o.reason) for o in audit.findings]
    suite = ElementTree.Element("testsuite", name=f"audit of {audit.model}")
    for name, backdoored, text in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=audit.model, name=name)
        if backdoored is not False:
            outcome = "failure" if backdoored else "skipped"
            ElementTree.SubElement(case, outcome, message=text or VERDICTS[backdoored])
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(backdoored is True for _, backdoored, _ in cases)))
    suite.set("skipped", str(sum(backdoored is None for _, backdoored, _ in cases)))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


FORMS: dict[str, Callable[[Audit], str]] = {
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}
