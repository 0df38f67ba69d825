"""Every metric that a record may hold, in the order of tables.

May import nothing of `bench` outside itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.spec.metrics.attacks import ATTACKS
from bench.spec.metrics.detection import DETECTION
from bench.spec.metrics.metric import Metric
from bench.spec.metrics.repairs import REPAIRS

__all__ = ["METRICS", "TAKES", "Metric", "took"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in ATTACKS + DETECTION + REPAIRS}

TAKES = 0.5
"""An attack whose ASR is lower did not take: there is no backdoor to detect or to remove."""


def took(attack: str, figures: Mapping[str, Any]) -> bool:
    """Whether an attack gave its victim a backdoor, by the ASR among a cell's figures.

    That is ``asr_before`` in a cell with a defense, ``asr`` in an attack's own. Of a clean model,
    or without either figure, nothing is said, and nothing left out.
    """
    asr = figures.get("asr_before", figures.get("asr"))
    return attack == "none" or asr is None or float(asr) >= TAKES
