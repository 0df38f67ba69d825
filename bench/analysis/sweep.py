"""What happens to each defense as the attacker poisons more: the points of a sweep."""

from __future__ import annotations

from bench.analysis.axis import Point, by_study
from bench.analysis.series import Measured, Series
from bench.analysis.statistics import estimate
from bench.spec import defaults
from bench.spec.cell import Kind

SHOWN: dict[Kind, list[str]] = {
    "detection": [
        *("tpr", "fpr", "f1", "false_labels"),
        *("verdict_correct", "target_found", "auroc", "tpr_at_5_fpr"),
    ],
    "repair": ["clean_accuracy_before", "asr_before", "clean_accuracy", "asr"],
    "training": ["clean_accuracy_before", "asr_before", "clean_accuracy", "asr"],
}
"""Kind of defense -> the metrics of its table."""


def points(measured: Measured) -> dict[str, list[Point]]:
    """Data set and model -> a point for each attack, poison rate and defense.

    Only attacks with two rates or more are in it. ``rate``: of the training set, or of
    what else the attack takes its share of; ``poisons``: samples, mean over seeds;
    ``target_share``: of the samples with the target's label.
    """
    found = [p for series in measured.of_one_identity.series if (p := _point(series)) is not None]
    return by_study(found, "rate")


def _point(series: Series) -> Point | None:
    """None where something else than the rate was varied, and where nothing was poisoned."""
    cell = series.cell
    params = dict(cell.attack_params)
    rate = params.pop("poison_rate", None) or defaults.poison_rate(cell.dataset, cell.attack)
    if cell.defense == "none" or params or not rate or not series.figures:
        return None
    poison = [record.poison for record in series.records]
    return {
        "study": " / ".join(series.study),
        "attack": cell.attack,
        "rate": rate,
        "poisons": round(estimate([p["poisoned_samples"] for p in poison]).mean),
        "target_share": estimate(
            [p["poisoned_samples"] / p["target_samples"] for p in poison]
        ).mean,
        "kind": series.kind,
        "defense": series.defense,
        "seeds": len(series.records),
        **{m: series.figures[m] for m in SHOWN[series.kind] if m in series.figures},
    }
