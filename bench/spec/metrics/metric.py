"""What is known of a metric: its definition, what is better, how it is written, its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Of = Literal["test", "triggered", "positives", "negatives", "covers", "model", "uncounted", ""]
"""What a share is of: all test images; those that ASR is measured on; what a detector should and
should not flag (training samples, inputs or the model, by its kind); covers; the one model; what
no record counts."""


@dataclass(frozen=True)
class Metric:
    """``better``: for the defender; ``""`` where there is no good or bad. ``digits``: decimals.

    ``of``: what it is a share of, so that its interval knows how many there were. Of a figure made
    of several shares it is the smallest set among them. ``""`` is no share: it may lie
    outside [0, 1].
    """

    name: str
    title: str
    definition: str
    better: Literal["higher", "lower", ""] = ""
    unit: Literal["%", "dB", ""] = "%"
    digits: int = 2
    source: str = ""
    of: Of = ""

    def show(self, value: float) -> str:
        """A value as people read it: shares in per cent, all else as it is."""
        return f"{100 * value if self.unit == '%' else value:.{self.digits}f}"

    @property
    def is_share(self) -> bool:
        """Whether it lies in [0, 1], as its interval then does, too."""
        return bool(self.of)

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title
