"""An audit for programs: JSON, SARIF for code hosts, JUnit XML for test reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
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
            "preprocessing": {"says": audit.how.name, "guessed": audit.guessed},
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
            results.append(_result(audit, one.detector, "note", text.strip()))
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
    where = {"physicalLocation": {"artifactLocation": {"uri": quote(audit.model)}}}
    return {"ruleId": rule, "level": level, "message": {"text": text}, "locations": [where]}


def as_junit(audit: Audit) -> str:
    """The verdict as a test case, which alone may fail; what each detector says as others.

    Detectors raise false alarms by themselves: the rule over all of them is what was measured.
    """
    suite = ElementTree.Element("testsuite", name=f"audit of {audit.model}")
    case = ElementTree.SubElement(suite, "testcase", classname=audit.model, name="verdict")
    if audit.backdoored is not False:
        outcome = "failure" if audit.backdoored else "skipped"
        ElementTree.SubElement(case, outcome, message=audit.verdict)
    for one in audit.findings:
        case = ElementTree.SubElement(suite, "testcase", classname=audit.model, name=one.detector)
        if one.backdoored is None:
            ElementTree.SubElement(case, "skipped", message=one.says or one.reason)
        else:
            accused = audit.accused(one)
            said = f"{VERDICTS[one.backdoored]} {accused} {one.says}".strip()
            ElementTree.SubElement(case, "system-out").text = said
    suite.set("tests", str(1 + len(audit.findings)))
    suite.set("failures", str(int(audit.backdoored is True)))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


FORMS: dict[str, Callable[[Audit], str]] = {
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}
