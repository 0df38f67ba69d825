"""Which attacks took: an attack that gave its victim no backdoor proves nothing of a defense."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.analysis.series import Measured, Series
from bench.analysis.statistics import estimate
from bench.spec.metrics import METRICS, TAKES

VICTIM = ["dataset", "model", "attack", "seed"]
"""Columns of the frame that tell victims apart."""


class Taken:
    """Tells of which series the attack did not take, by the ASR of their victims.

    A repair measured that ASR itself; else it stands in the attack's own record of the same victim.
    """

    def __init__(self, measured: Measured) -> None:
        asr = _asr(measured.frame)
        self._asr: dict[Any, list[float]] = dict(asr.groupby("number")["asr"].agg(list).items())

    def failure(self, *series: Series) -> str:
        """``did not take: ASR 7 %``, by the mean over the seeds; empty for an attack that took.

        Of clean models, and where no ASR is known, nothing is said.
        """
        known = [asr for one in series for asr in self._asr.get(one.number, [])]
        if not known or series[0].cell.attack == "none":
            return ""
        mean = estimate(known).mean
        return "" if mean >= TAKES else f"did not take: {METRICS['asr'].title} {100 * mean:.0f} %"


def _asr(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each record whose victim's ASR is known: its series' ``number`` and the ``asr``."""
    of_attack = (frame["metric"] == "asr") & (frame["kind"] == "attack")
    own = frame[of_attack].drop_duplicates(VICTIM, keep="last").set_index(VICTIM)["value"]
    told = frame[of_attack | (frame["metric"] == "asr_before")].set_index("record")["value"]
    victims = frame.drop_duplicates("record").join(own.rename("asr"), on=VICTIM)
    victims["asr"] = victims["record"].map(told).fillna(victims["asr"])
    return victims.dropna(subset="asr")
