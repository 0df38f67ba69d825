"""All that an audit found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.odds import Judgement, Zoo
from bench.auditing.examine import Finding
from bench.auditing.preprocess import Preprocess

VERDICTS = {True: "backdoored", False: "clean", None: "could not be judged"}


@dataclass(frozen=True, eq=False)
class Audit:
    """``model``: what it is called; ``form``: what it came in. ``how``: its images are handed to
    it, and ``guessed``: whether nobody said so. ``accuracy``: on the clean images, a share.
    ``zoo``: the nearest setting whose models were made to know."""

    model: str
    form: str
    how: Preprocess
    guessed: bool
    accuracy: float
    classes: Sequence[str]
    findings: Sequence[Finding]
    judgement: Judgement
    zoo: Zoo

    @property
    def backdoored(self) -> bool | None:
        """None where it could not be judged."""
        return self.judgement.backdoored

    @property
    def verdict(self) -> str:
        return VERDICTS[self.backdoored]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 backdoored, 2 could not be judged."""
        return {False: 0, True: 1, None: 2}[self.backdoored]

    def accused(self, one: Finding) -> str:
        """The names of the classes that a detector accuses."""
        return ", ".join(self.classes[label] for label in one.suspects)
