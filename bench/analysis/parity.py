"""What others publish of a method, and what was measured of it here in the nearest setting."""

from __future__ import annotations

from dataclasses import dataclass

from bench.analysis.series import Measured, Series
from bench.expected.published import Figures, Setting, published
from bench.spec.cell import Cell

TOOK, GONE = 0.9, 0.1
"""ASR that an attack is published to reach, and that a repair is published to bring it under: an
effect which ours has to have, too."""


@dataclass(frozen=True)
class Row:
    """``series``: ours; None where it is not measured yet. ``differences``: ours less theirs."""

    told: Figures
    series: Series | None
    effect: str

    @property
    def differences(self) -> dict[str, float]:
        figures = self.series.figures if self.series else {}
        return {
            metric: figures[metric].mean - value
            for metric, value in self.told.metrics.items()
            if metric in figures
        }


def parity(measured: Measured) -> list[tuple[Setting, list[Row]]]:
    """Every setting of ``published.toml`` with a row for each method."""
    ours = {series.name: series for series in measured.of_one_identity.series}
    found = []
    for setting in published():
        rows = []
        for told in setting.figures:
            series = ours.get(_cell(setting, told).name)
            rows.append(Row(told, series, _effect(told, series)))
        found.append((setting, rows))
    return found


def _cell(setting: Setting, told: Figures) -> Cell:
    return Cell(
        setting.dataset,
        model=setting.model,
        model_params=setting.model_params,
        attack=setting.attack,
        attack_params=setting.attack_params,
        defense=told.defense,
    )


def _effect(told: Figures, series: Series | None) -> str:
    """Whether an attack that is published to take takes here, a repair that removes removes."""
    theirs = told.metrics.get("asr")
    ours = series.figures.get("asr") if series else None
    if theirs is None or ours is None:
        return ""
    if told.defense == "none":
        reached = None if theirs < TOOK else ours.mean >= TOOK
    else:
        reached = None if theirs > GONE else ours.mean <= GONE
    return {None: "", True: "reached", False: "**not reached**"}[reached]
