"""Heat maps: attack x defense, one for each kind of defense."""

from __future__ import annotations

from collections.abc import Iterable

from bench.analysis.plugins import power
from bench.analysis.ranking import by_defense, named
from bench.analysis.series import Measured, Series
from bench.analysis.squares import EMPTY, Square, Table, figure_square, text_square
from bench.analysis.taken import Taken
from bench.spec.cell import Flavour, level_of

HEAT: list[tuple[Flavour, str, str]] = [
    ("repair", "asr", "ASR after repair (%)"),
    ("training", "asr", "ASR after training (%)"),
    ("certified", "certified_at_poison", "certified against the poison (%)"),
    ("samples", "f1", "F1 of sample detection"),
    ("model", "target_found", "target found by model detection (%)"),
    ("inputs", "auroc", "AUROC of input detection"),
]


def heat_maps(study: Measured) -> Iterable[Table]:
    """ASR after each repair or training, the figure of its kind for each detector and proof.

    ``study``: of one data set and model, each cell of one identity.
    """
    taken = Taken(study)
    for of, metric, title in HEAT:
        shown = study.only(s for s in study.series if metric in s.figures or s.not_applicable)
        versions = by_defense(shown, of)
        attacks = {attack for cells in versions.values() for attack in cells} - {"none"}
        ordered = sorted(attacks, key=lambda attack: (level_of(attack), attack))
        rows = [
            {
                "attack": text_square(attack),
                **{
                    named(version, versions): _square(metric, cells.get(attack), taken)
                    for version, cells in versions.items()
                },
            }
            for attack in ordered
        ]
        tags = [{"attack": attack, "power": power(attack), "kind": of} for attack in ordered]
        if rows:
            yield Table(title, rows, tags)


def _square(metric: str, series: Series | None, taken: Taken) -> Square:
    """A figure, or why there is none: no backdoor to detect or remove, defense not applicable."""
    if series is None:
        return EMPTY
    none = "not applicable" if series.not_applicable else taken.failure(series)
    return Square(none, None, series.records) if none else figure_square(metric, series)
