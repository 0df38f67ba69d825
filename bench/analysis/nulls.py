"""Whether a defense beats its nulls: the plugins that do nothing clever, and chance.

A defense beats a null when it is better, on the same victims and with the same clean images, by
more than the interval of their difference paired by seed. A detector beats chance when the interval
of its AUROC lies over a half.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.analysis.differences import better
from bench.analysis.headline import CHANCE, GUESSED, HEADLINE
from bench.analysis.seedwise import BySeed, by_seed, mean, over_seeds
from bench.analysis.series import Measured, Series
from bench.spec.cell import Flavour, flavour_of
from defenses import DEFENSES

IS_NULL = "a null"


def is_null(defense: str) -> bool:
    """By what a plugin says of itself; one that is not loaded says nothing."""
    return defense in DEFENSES and DEFENSES[defense].info.null


class Nulls:
    """Holds the defenses of some records against the nulls among them."""

    def __init__(self, measured: Measured) -> None:
        self._figures = by_seed(measured)
        self._on: dict[tuple[object, ...], list[Series]] = {}
        for series in measured.series:
            if series.figures and is_null(series.cell.defense):
                self._on.setdefault(_conditions(series), []).append(series)

    def mark(self, cells: Sequence[Series], on_clean: Series | None = None) -> str:
        """What is said of a defense, measured against one attack or several.

        ``a null``, ``does not beat from_scratch, chance``, or nothing where it beats what there is
        to beat. ``on_clean``: its verdicts on clean models, without which those on attacked models
        are not held against chance.
        """
        if any(is_null(series.cell.defense) for series in cells):
            return IS_NULL
        lost = [name for name in self._nulls_of(cells) if not self._beats(name, cells)]
        if not self._beats_chance(cells, on_clean):
            lost.append("chance")
        return f"does not beat {', '.join(lost)}" if lost else ""

    def _nulls_of(self, cells: Sequence[Series]) -> list[str]:
        nulls = (null for series in cells for null in self._on.get(_conditions(series), []))
        return list(dict.fromkeys(null.cell.defense for null in nulls))

    def _beats(self, name: str, cells: Sequence[Series]) -> bool:
        """In the mean over those attacks on which the null was measured, too."""
        pairs = [
            (series, null)
            for series in cells
            for null in self._on.get(_conditions(series), [])
            if null.cell.defense == name
        ]
        metric = HEADLINE[cells[0].flavour]
        own, other = (
            mean([self._of(one, metric) for one in some]) for some in zip(*pairs, strict=True)
        )
        return better(own, other)

    def _beats_chance(self, cells: Sequence[Series], on_clean: Series | None) -> bool:
        of: Flavour = cells[0].flavour
        if of not in CHANCE or (of == "model" and on_clean is None):
            return True
        figures = mean([self._of(series, CHANCE[of]) for series in cells])
        if on_clean is not None and of == "model":
            figures = mean([figures, self._of(on_clean, CHANCE[of])])
        found = over_seeds(figures)
        return bool(found and found.interval and found.interval[0] > GUESSED)

    def _of(self, series: Series, metric: str) -> BySeed:
        return self._figures.get((series.number, metric), {})


def _conditions(series: Series) -> tuple[object, ...]:
    """What a defense and its null must share: the victims, the clean images, the flavour."""
    return series.study, series.attack, series.cell.clean, series.flavour, series.victim_version


def note(of: Flavour, measured: Collection[str]) -> str:
    """Which nulls of a flavour stand in a table of some defenses, and which are lacking."""
    known = [name for name in DEFENSES.names() if is_null(name) and flavour_of(name) == of]
    there = [name for name in known if name in measured]
    lacking = [name for name in known if name not in measured]
    held = [*there, *(["chance"] if of in CHANCE else [])]
    told = f"Nulls: {', '.join(held)}." if held else ""
    return f"{told} Nulls not measured: {', '.join(lacking)}.".strip() if lacking else told
