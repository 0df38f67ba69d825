"""Who is ahead: defenses and attacks ranked.

The ranking is simple. Repairs and trainings by their mean DER over all attacks, trainings with a
proof by their certified accuracy, detectors by the mean of the
figure of their kind: F1 for samples, AUROC for inputs, and for models the mean of the share of
correct verdicts on attacked and on clean models, so that "always guilty" earns a half. Each with
its worst case and what it does not beat of its nulls beside it. Attacks by the ASR that is left
after the repair that does best against them, nulls aside, with their stealth beside it. What the
data cannot tell apart shares a rank, see `bench.analysis.ranks`.

Only plugins at their defaults are ranked, swept poison rates are not. An attack that did not take
(ASR under 50 %) has no rank and is in no mean, nor is a cell whose defense is not applicable.
Figures of different identity never share a row: a defense whose code changed between two attacks
has a row for each version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from bench.analysis.headline import HEADLINE
from bench.analysis.nulls import Nulls, is_null, note
from bench.analysis.over_models import over_models
from bench.analysis.plugins import power
from bench.analysis.provenance import seeds_of
from bench.analysis.ranks import Ranked, RankedRow, ranked
from bench.analysis.seedwise import BySeed, by_seed, mean, over_seeds
from bench.analysis.series import Measured, Series
from bench.analysis.squares import EMPTY, Row, Square, Table, figure_square, show, text_square
from bench.analysis.taken import Taken
from bench.spec.cell import Flavour
from bench.spec.metrics import METRICS

TITLES: dict[Flavour, str] = {
    "repair": "Repairs",
    "training": "Trainings on data that is not trusted",
    "certified": "Trainings with a proof",
    "samples": "Detectors of poisoned samples",
    "model": "Detectors of backdoored models",
    "inputs": "Detectors of triggered inputs",
    "attack": "Attacks",
}
BESIDE: dict[Flavour, list[str]] = {
    "repair": ["asr", "clean_accuracy"],
    "training": ["asr", "clean_accuracy"],
    "certified": ["certified_at_poison", "median_certificate", "asr", "clean_accuracy"],
    "samples": ["tpr", "fpr"],
    "model": ["target_found", "mask_iou"],
    "inputs": ["tpr_at_5_fpr", "tpr", "fpr"],
}
ON_CLEAN: dict[Flavour, tuple[str, str]] = {
    "repair": ("clean_accuracy", "clean model after it (%)"),
    "training": ("clean_accuracy", "clean accuracy on clean data (%)"),
    "certified": ("clean_accuracy", "clean accuracy on clean data (%)"),
    "samples": ("fpr", METRICS["fpr_clean_model"].heading),
    "model": ("fpr", METRICS["fpr_clean_model"].heading),
    "inputs": ("fpr", METRICS["fpr_clean_model"].heading),
}
NULLS = "against its nulls"
STEALTH = ["linf", "psnr", "ssim", "changed"]
LEFT = "ASR left after the best repair (%)"
LEFT_IN_TRAINING = "ASR left after the best training (%)"

Versions = dict[str, dict[str, Series]]
"""A defense and the version of it that was measured (``anp @1a2b3c4d``) -> attack -> its series."""


def rankings(study: Measured) -> list[Table]:
    """Of the series of one data set and model, each cell of one identity."""
    taken = Taken(study)
    took = study.only(series for series in study.series if not taken.failure(series))
    return [*_defenses(took), *over_models(took), *_attacks(study, taken)]


def by_defense(study: Measured, of: Flavour) -> Versions:
    versions: Versions = {}
    for series in study.series:
        if series.flavour == of:
            version = f"{series.cell.defense} @{series.defense_version[:8]}"
            versions.setdefault(version, {})[series.cell.attack] = series
    return versions


def named(version: str, among: Iterable[str]) -> str:
    """The version is told only where there are several of that name."""
    name = version.partition(" @")[0]
    several = len([other for other in among if other.partition(" @")[0] == name]) > 1
    return version if several else name


def _defenses(study: Measured) -> Iterable[Table]:
    attacks = {series.cell.attack for series in study.series} - {"none"}
    figures, nulls = by_seed(study), Nulls(study)
    for of, metric in HEADLINE.items():
        versions = by_defense(study, of)
        rows = []
        for version, every in versions.items():
            cells = {a: s for a, s in every.items() if a != "none" and metric in s.figures}
            if cells:
                one = _Defense(of, cells, every.get("none"), figures)
                row = {"defense": text_square(named(version, versions))}
                row |= one.row()
                row["attacks"] = Square(f"{len(cells)} of {len(attacks)}", len(cells))
                row[NULLS] = text_square(nulls.mark([*cells.values()], every.get("none")))
                rows.append(RankedRow(row, {"kind": of}, one.ranked()))
        if rows:
            told = note(of, {version.partition(" @")[0] for version in versions})
            yield ranked(TITLES[of], rows, f"{METRICS[metric].heading}, mean", told)


@dataclass(frozen=True)
class _Defense:
    """One version of a defense. ``tried``: attack -> series. ``figures``: see `by_seed`."""

    of: Flavour
    tried: dict[str, Series]
    on_clean: Series | None
    figures: Mapping[tuple[int, str], BySeed]

    def row(self) -> Row:
        metric = HEADLINE[self.of]
        each = {attack: self.mean(metric, attack) for attack in self.tried}
        worst = min(each, key=lambda attack: float(each[attack].value or 0))
        heading = METRICS[metric].heading
        clean_metric, clean_heading = ON_CLEAN[self.of]
        means = {name: self.mean(name) for name in (metric, *BESIDE[self.of])}
        return {
            f"{heading}, mean": means[metric],
            f"{heading}, worst": replace(each[worst], text=f"{each[worst].text} ({worst})"),
            **{f"{METRICS[name].heading}, mean": means[name] for name in BESIDE[self.of]},
            clean_heading: figure_square(clean_metric, self.on_clean),
            "seeds": text_square(seeds_of(means[metric].behind)),
        }

    def ranked(self) -> Ranked:
        """By seed, what it is ranked by: of each attack, of models each with the clean ones."""
        return {attack: self._by_seed(HEADLINE[self.of], attack) for attack in self.tried}

    def mean(self, metric: str, *attacks: str) -> Square:
        """Over attacks, by default all, of the seeds in which every one was tried, then over those
        seeds, so that the interval is over seeds. What ranks detectors of models is half the mean
        over attacks, half the clean models.
        """
        seedwise = self._by_seed(metric, *attacks)
        figure = over_seeds(seedwise)
        if figure is None:
            return EMPTY
        some = [self.tried[attack] for attack in attacks or self.tried]
        if self.on_clean and self._clean_half(metric):
            some.append(self.on_clean)
        behind = [
            record
            for series in some
            for record in series.records
            if metric in record.metrics and record.cell.seed in seedwise
        ]
        return Square(show(metric, figure), figure.mean, behind)

    def _by_seed(self, metric: str, *attacks: str) -> BySeed:
        attacked = mean([self._of(self.tried[a], metric) for a in attacks or self.tried])
        return mean([attacked, *self._clean_half(metric)])

    def _clean_half(self, metric: str) -> list[BySeed]:
        counts = self.of == "model" and metric == HEADLINE[self.of] and self.on_clean
        return [self._of(self.on_clean, metric)] if counts and self.on_clean else []

    def _of(self, series: Series, metric: str) -> BySeed:
        return self.figures.get((series.number, metric), {})


def _attacks(study: Measured, taken: Taken) -> Iterable[Table]:
    victims: dict[str, list[Series]] = {}
    for series in study.series:
        if series.cell.attack != "none":
            version = f"{series.cell.attack} @{series.victim_version[:8]}"
            victims.setdefault(version, []).append(series)
    rows, figures = [], by_seed(study)
    for version, some in victims.items():
        attack = some[0].cell.attack
        own = next((series for series in some if series.kind == "attack"), None)
        failed = taken.failure(own) if own else taken.failure(*some)
        none = Square(failed, None)
        row: Row = {
            "attack": text_square(named(version, victims)),
            "needs": text_square(power(attack)),
            LEFT: none if failed else _best(some, "repair", "asr", min),
            "ASR (%)": figure_square("asr", own),
            "clean accuracy (%)": figure_square("clean_accuracy", own),
            "F1 of the best detector": none if failed else _best(some, "samples", "f1", max),
        }
        if any(series.kind == "training" for series in study.series):
            left = none if failed else _best(some, "training", "asr", min)
            row[LEFT_IN_TRAINING] = left
        row |= {METRICS[metric].heading: figure_square(metric, own) for metric in STEALTH}
        tags = {"attack": attack, "power": power(attack), "kind": "attack"}
        best = None if failed else _best_of(some, "repair", "asr", min)
        left_by = figures.get((best.number, "asr"), {}) if best else {}
        rows.append(RankedRow(row, tags, {"": left_by}))
    if rows:
        yield ranked(TITLES["attack"], rows, LEFT)


def _best(some: Iterable[Series], of: Flavour, metric: str, choose: Callable[..., str]) -> Square:
    """The figure of the defense that does best, with its name."""
    best = _best_of(some, of, metric, choose)
    return figure_square(metric, best, f" ({best.cell.defense})") if best else EMPTY


def _best_of(
    some: Iterable[Series], of: Flavour, metric: str, choose: Callable[..., str]
) -> Series | None:
    tried = {
        s.cell.defense: s
        for s in some
        if s.flavour == of and metric in s.figures and not is_null(s.cell.defense)
    }
    if not tried:
        return None
    return tried[choose(tried, key=lambda defense: tried[defense].figures[metric].mean)]
