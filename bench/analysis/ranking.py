"""Who is ahead: defenses and attacks ranked.

The ranking is simple. Repairs and trainings by their mean DER over all attacks, trainings with a
proof by their certified accuracy, detectors by the mean of the
figure of their kind: F1 for samples, AUROC for inputs, and for models the mean of the share of
correct verdicts on attacked and on clean models, so that "always guilty" earns a half. Each with
its worst case beside it. Attacks by the ASR that is left after the repair that does best against
them, with their stealth beside it.

Only plugins at their defaults are ranked, swept poison rates are not. An attack that did not take
(ASR under 50 %) has no rank and is in no mean, nor is a cell whose defense is not applicable.
Figures of different identity never share a row: a defense whose code changed between two attacks
has a row for each version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from bench.analysis.plugins import power
from bench.analysis.provenance import seeds_of
from bench.analysis.series import Measured, Series
from bench.analysis.squares import EMPTY, Row, Square, Table, figure_square, show, text_square
from bench.analysis.statistics import estimates
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
RANKED_BY: dict[Flavour, str] = {
    "repair": "der",
    "training": "der",
    "certified": "certified_accuracy",
    "samples": "f1",
    "model": "verdict_correct",
    "inputs": "auroc",
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
STEALTH = ["linf", "psnr", "ssim", "changed"]
LEFT = "ASR left after the best repair (%)"
LEFT_IN_TRAINING = "ASR left after the best training (%)"

Versions = dict[str, dict[str, Series]]
"""A defense and the version of it that was measured (``anp @1a2b3c4d``) -> attack -> its series."""


def rankings(study: Measured) -> list[Table]:
    """Of the series of one data set and model, each cell of one identity."""
    taken = Taken(study)
    took = study.only(series for series in study.series if not taken.failure(series))
    return [*_defenses(took), *_attacks(study, taken)]


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
    for of, metric in RANKED_BY.items():
        versions = by_defense(study, of)
        tried = {
            version: {a: s for a, s in cells.items() if a != "none" and metric in s.figures}
            for version, cells in versions.items()
        }
        on_clean = {
            version: cells["none"] for version, cells in versions.items() if "none" in cells
        }
        means = _over_attacks(study, of, tried, on_clean)
        rows: list[tuple[Row, dict[str, str]]] = []
        for version, cells in tried.items():
            if cells:
                row = {"defense": text_square(named(version, versions))}
                row |= _defense_row(of, cells, on_clean.get(version), means[version])
                row["attacks"] = Square(f"{len(cells)} of {len(attacks)}", len(cells))
                rows.append((row, {"kind": of}))
        yield from _ranked(TITLES[of], rows, f"{METRICS[metric].heading}, mean")


def _defense_row(
    of: Flavour, tried: dict[str, Series], on_clean: Series | None, means: dict[str, Square]
) -> Row:
    metric = RANKED_BY[of]
    worst = min(tried, key=lambda attack: tried[attack].figures[metric].mean)
    heading = METRICS[metric].heading
    clean_metric, clean_heading = ON_CLEAN[of]
    return {
        f"{heading}, mean": means[metric],
        f"{heading}, worst": figure_square(metric, tried[worst], f" ({worst})"),
        **{f"{METRICS[name].heading}, mean": means[name] for name in BESIDE[of]},
        clean_heading: figure_square(clean_metric, on_clean),
        "seeds": text_square(seeds_of(means[metric].behind)),
    }


def _over_attacks(
    study: Measured, of: Flavour, tried: Versions, on_clean: Mapping[str, Series]
) -> dict[str, dict[str, Square]]:
    """Version -> metric -> its mean over attacks, of the seeds in which every attack was tried.

    First the mean over the attacks of each seed, then over seeds, so that the interval is over
    seeds. What ranks detectors of models is half the mean over attacks, half the clean model.
    """
    ranked_by = RANKED_BY[of]
    whole = _whole_seeds(_rows_of(study, tried), {v: len(cells) for v, cells in tried.items()})
    beside = on_clean if of == "model" else {}
    if beside:
        clean = _rows_of(study, {version: {"none": s} for version, s in beside.items()})
        both = pd.concat([whole, clean])
        both = both[both["metric"] == ranked_by]
        half = _whole_seeds(both, {version: 1 + (version in beside) for version in tried})
        whole = pd.concat([half, whole[whole["metric"] != ranked_by]])
    seeds = whole.groupby(["version", "metric"])["seed"].agg(set).to_dict()
    squares: dict[str, dict[str, Square]] = {
        version: dict.fromkeys([ranked_by, *BESIDE[of]], EMPTY) for version in tried
    }
    for (version, metric), figure in estimates(whole, "version", "metric").items():
        if metric in squares[version]:
            some = [*tried[version].values()]
            if metric == ranked_by and version in beside:
                some.append(beside[version])
            behind = [
                record
                for series in some
                for record in series.records
                if metric in record.metrics and record.cell.seed in seeds[version, metric]
            ]
            squares[version][metric] = Square(show(metric, figure), figure.mean, behind)
    return squares


def _rows_of(study: Measured, versions: Versions) -> pd.DataFrame:
    """The frame's rows of some series, with a column ``version``."""
    of = {s.number: version for version, cells in versions.items() for s in cells.values()}
    frame = study.frame
    return frame.assign(version=frame["number"].map(of)).dropna(subset=["version", "value"])


def _whole_seeds(frame: pd.DataFrame, needed: Mapping[str, int]) -> pd.DataFrame:
    """The mean of each version, metric and seed that has as many figures as are ``needed``."""
    means = [
        (*group, figure.mean)
        for group, figure in estimates(frame, "version", "metric", "seed").items()
        if figure.n == needed[group[0]]
    ]
    return pd.DataFrame(means, columns=["version", "metric", "seed", "value"])


def _attacks(study: Measured, taken: Taken) -> Iterable[Table]:
    victims: dict[str, list[Series]] = {}
    for series in study.series:
        if series.cell.attack != "none":
            version = f"{series.cell.attack} @{series.victim_version[:8]}"
            victims.setdefault(version, []).append(series)
    rows: list[tuple[Row, dict[str, str]]] = []
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
        rows.append((row, {"attack": attack, "power": power(attack), "kind": "attack"}))
    yield from _ranked(TITLES["attack"], rows, LEFT)


def _best(some: Iterable[Series], of: Flavour, metric: str, choose: Callable[..., str]) -> Square:
    """The figure of the defense that does best, with its name."""
    tried = {s.cell.defense: s for s in some if s.flavour == of and metric in s.figures}
    if not tried:
        return EMPTY
    best = choose(tried, key=lambda defense: tried[defense].figures[metric].mean)
    return figure_square(metric, tried[best], f" ({best})")


def _ranked(title: str, rows: list[tuple[Row, dict[str, str]]], by: str) -> Iterable[Table]:
    """Highest first; whoever has no figure to be ranked by comes last, without a rank."""
    if not rows:
        return
    rows = sorted(rows, key=lambda pair: -float(pair[0][by].value or 0.0))
    rows.sort(key=lambda pair: pair[0][by].value is None)
    ranked = []
    for at, (row, _) in enumerate(rows, start=1):
        rank = EMPTY if row[by].value is None else Square(str(at), at)
        ranked.append({"rank": rank, **row})
    yield Table(title, ranked, [tags for _, tags in rows], f"Ranked by {by}.")
