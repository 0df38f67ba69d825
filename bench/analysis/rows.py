"""Series -> the rows of the tables of attacks, detection, repair and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.analysis import claims, gates
from bench.analysis.nulls import Nulls
from bench.analysis.plugins import info
from bench.analysis.series import Measured, Series
from bench.analysis.statistics import Estimate
from bench.analysis.taken import Taken
from bench.expected.expectations import remark
from bench.spec.cell import Kind, sees
from bench.store.records import Record

REPAIRED = [
    *("clean_accuracy_before", "clean_accuracy", "asr_before", "asr", "ra_before", "ra", "der"),
    *("reactivation", "company"),
]
COLUMNS: dict[Kind, list[str]] = {
    "attack": [
        *("clean_accuracy", "asr", "asr_worst", "ra", "leak", "cover_accuracy"),
        *("asr_clean_model", "asr_other_seed"),
        *("survives_jpeg", "survives_resize", "survives_crop"),
        *("linf", "psnr", "ssim", "changed"),
        *("linf_train", "psnr_train", "ssim_train", "changed_train"),
    ],
    "detection": [
        *("tpr", "fpr", "fpr_clean_model", "f1", "auroc", "covers_flagged", "false_labels"),
        *("aimed_fpr", "verdict_correct", "suspicion", "target_found", "mask_iou", "tpr_at_5_fpr"),
    ],
    "repair": REPAIRED,
    "training": [
        *REPAIRED,
        *("certified_accuracy", "certified_at_poison", "median_certificate", "abstained"),
    ],
}
"""Kind of cell -> the metrics of its table."""

HANDED_OVER = "the data handed over"
"""What a defense trained on where the attacker controlled the victim's training: its last pass."""

Row = dict[str, Any]
"""Labels as text; metrics as `Estimate`, None where they were not measured."""


def rows(measured: Measured, kind: Kind) -> list[Row]:
    """One row for each series: records whose identity differs in more than the seed share none."""
    taken, clean = Taken(measured), _clean_models(measured)
    said, nulls = claims.by_series(claims.standings(measured)), Nulls(measured)
    return [
        _row(series, taken, clean, said, nulls) for series in measured.series if series.kind == kind
    ]


def _row(
    series: Series,
    taken: Taken,
    clean: dict[str, Estimate],
    said: dict[int, str],
    nulls: Nulls,
) -> Row:
    cell, kind = series.cell, series.kind
    dataset, model = series.study
    row: Row = {"dataset": dataset, "model": model, "attack": series.attack}
    if kind == "attack":
        row["needs"] = info(cell.attack, "needs")
    else:
        row["defense"] = series.defense
        row["sees"] = sees(cell.defense)
    if kind == "training":
        needs, seen = info(cell.attack, "needs"), sees(cell.defense) or "suspect"
        row["trained_on"] = HANDED_OVER if needs == "training" and "suspect" in seen else ""
    row["seeds"] = len(series.records)
    row["backdoor"] = taken.failure(series)
    row["poisoned"] = _poisoned(series.records)
    row["parameters"] = _own_parameters(series.records[0])
    row |= {metric: series.figures.get(metric) for metric in COLUMNS[kind]}
    if kind != "attack":
        backdoored = cell.attack != "none" and series.figures and not row["backdoor"]
        row["nulls"] = nulls.mark([series]) if backdoored else ""
    if kind == "detection":
        row["fpr_clean_model"] = clean.get(series.defense_version)
    row["claims"] = said.get(series.number, "")
    row["remark"] = series.not_applicable or (remark(cell) if cell.uses_defaults else "")
    row["gates"] = gates.verdict(series.records)
    row["identity"] = series.key[:8]
    return row


def _clean_models(measured: Measured) -> dict[str, Estimate]:
    """Version of a detector -> its FPR on clean models; of two series the one with more seeds."""
    found: dict[str, Estimate] = {}
    for series in measured.series:
        if series.kind == "detection" and series.cell.attack == "none":
            fpr, version = series.figures.get("fpr"), series.defense_version
            if fpr and (version not in found or fpr.n > found[version].n):
                found[version] = fpr
    return found


def _poisoned(records: Sequence[Record]) -> str:
    """The share of the training set that is poison, in per cent; with covers, also their share."""
    shares = []
    for name in ("poisoned_samples", "covers"):
        found = [
            100 * record.poison[name] / record.poison["training_samples"]
            for record in records
            if record.poison.get(name)
        ]
        if found:
            low, high = f"{min(found):.3g}", f"{max(found):.3g}"
            shares.append(low if low == high else f"{low} to {high}")
    return " + covers ".join(shares)


def _own_parameters(record: Record) -> str:
    """What the data set had changed of the attack's own defaults, beside its poison rate."""
    asked = record.identity.get("asked", {}).get("attack_params", {})
    given = {"poison_rate", *dict(record.cell.attack_params)}
    return " ".join(f"{name}={_short(asked[name])}" for name in asked if name not in given)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
