"""Records -> tables. Figures of the same cell over seeds become a mean and a 95 % interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t as student_t

from attacks import ATTACKS
from bench.analysis import gates
from bench.analysis.taken import Asr, asr_among, not_taken
from bench.runtime import files
from bench.spec.cell import Cell, Kind, level_of
from bench.spec.identity import differences, key, without
from bench.spec.metrics import METRICS
from bench.store.records import Record

COLUMNS: dict[Kind, list[str]] = {
    "attack": [
        "clean_accuracy",
        "asr",
        "ra",
        "asr_clean_model",
        "asr_other_seed",
        "linf",
        "psnr",
        "ssim",
        "changed",
    ],
    "detection": [
        "tpr",
        "fpr",
        "fpr_clean_model",
        "f1",
        "auroc",
        "false_labels",
        "verdict_correct",
        "target_found",
        "mask_iou",
        "tpr_at_5_fpr",
    ],
    "repair": [
        "clean_accuracy_before",
        "clean_accuracy",
        "asr_before",
        "asr",
        "ra_before",
        "ra",
        "der",
    ],
}
NAMES: dict[Kind, str] = {"attack": "attacks", "detection": "detection", "repair": "repair"}
"""Kind of cell -> name of its table and files."""


@dataclass(frozen=True)
class Estimate:
    """Mean and ``spread`` (standard deviation) over ``n`` seeds; one seed has no spread."""

    mean: float
    spread: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the 95 % interval of the mean (Student's t); None for one seed."""
        if self.spread is None:
            return None
        return float(student_t.ppf(0.975, self.n - 1)) * self.spread / math.sqrt(self.n)


def estimate(values: Sequence[float]) -> Estimate:
    """Raises ValueError for no values at all."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to average")
    return Estimate(math.fsum(values) / n, statistics.stdev(values) if n > 1 else None, n)


def in_order(records: Iterable[Record]) -> list[Record]:
    """By data set and model, then attacks from the plainest to the stealthiest."""

    def place(record: Record) -> tuple[Any, ...]:
        cell = record.cell
        rate = float(dict(cell.attack_params).get("poison_rate", 0.0))
        study = (cell.dataset, cell.model)
        return *study, level_of(cell.attack), cell.attack, rate, cell.defense, cell.seed

    return sorted(records, key=place)


def select(records: Iterable[Record], kind: Kind) -> list[Record]:
    return [record for record in records if record.kind == kind]


def rows(records: Iterable[Record], kind: Kind) -> list[dict[str, Any]]:
    """One row for each cell without its seed: labels as text, metrics as `Estimate`.

    Records whose identity differs in more than the seed never share a row.
    """
    found = list(records)
    asr = asr_among(found)
    return [_row(group, kind, found, asr) for group in seeds_together(select(found, kind))]


def seeds_together(records: Iterable[Record]) -> list[list[Record]]:
    """Records of one cell that differ in nothing but their seed, each seed once."""
    groups: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        of_cell = groups.setdefault((name_of(record), record.series), {})
        of_cell.setdefault(f"{record.key} {record.cell.seed}", record)
    return [list(group.values()) for group in groups.values()]


def of_one_identity(records: Iterable[Record]) -> list[Record]:
    """Of each cell the records of the identity with most seeds: what is drawn mixes no two."""
    chosen: dict[str, list[Record]] = {}
    for group in seeds_together(records):
        name = name_of(group[0])
        if len(group) > len(chosen.get(name, [])):
            chosen[name] = group
    return [record for group in chosen.values() for record in group]


def mixed(records: Iterable[Record]) -> dict[str, list[str]]:
    """Cells that fill more than one row, and what differs between them."""
    lineages: dict[str, dict[str, Record]] = {}
    for record in records:
        lineages.setdefault(name_of(record), {}).setdefault(record.series, record)
    return {
        name: _differences(list(found.values()))
        for name, found in lineages.items()
        if len(found) > 1
    }


def _differences(records: list[Record]) -> list[str]:
    first, *others = (without(record.identity, "seed") for record in records)
    return sorted({line for other in others for line in differences(first, other)})


def name_of(record: Record) -> str:
    """A record's cell without its seed: ``mnist-simplecnn-pixel-fine_pruning``."""
    return record.cell.id.rpartition("-s")[0]


def lacking(records: Iterable[Record], kind: Kind, asked: Iterable[Cell] = ()) -> list[str]:
    """Ids of the cells that a table should have and has not.

    ``asked``: the cells that a run was to measure. Without it, the cross of all that occurs in the
    records: every attack with every defense of the kind and every seed.
    """
    found = list(records)
    present = {record.cell.id for record in found}
    wanted = [cell for cell in asked if cell.kind == kind] or _cross_of(found, kind)
    return [cell.id for cell in wanted if cell.id not in present]


def complete(records: Iterable[Record], kind: Kind, asked: Iterable[Cell] = ()) -> str:
    """How many cells a table lacks of those it should have, as a sentence."""
    found = list(records)
    have = {record.cell.id for record in select(found, kind)}
    missing = lacking(found, kind, asked)
    whole = f"{NAMES[kind].capitalize()}: {len(have)} of {len(have) + len(missing)} cells"
    if not missing:
        return f"{whole}, none lacking."
    named = ", ".join(missing[:5]) + (" and others" if len(missing) > 5 else "")
    return f"{whole}; {len(missing)} lacking: {named}."


def _cross_of(records: list[Record], kind: Kind) -> list[Cell]:
    cells = [record.cell for record in records]
    wanted = []
    for study in dict.fromkeys((cell.dataset, cell.model, cell.model_params) for cell in cells):
        some = [c for c in cells if (c.dataset, c.model, c.model_params) == study]
        of_kind = [record.cell for record in select(records, kind) if record.cell in some]
        for attack, params in dict.fromkeys((c.attack, c.attack_params) for c in some):
            for defense, more in dict.fromkeys((c.defense, c.defense_params) for c in of_kind):
                for seed in dict.fromkeys(c.seed for c in some):
                    wanted.append(
                        Cell(study[0], study[1], attack, defense, seed, params, more, study[2])
                    )
    return wanted


def _row(group: list[Record], kind: Kind, records: list[Record], asr: Asr) -> dict[str, Any]:
    cell = group[0].cell
    row: dict[str, Any] = {"dataset": cell.dataset, "model": cell.model}
    row["attack"] = with_params(cell.attack, cell.attack_params)
    if kind == "attack":
        row["needs"] = info(cell.attack, "needs")
    else:
        row["defense"] = with_params(cell.defense, cell.defense_params)
    row["seeds"] = len(group)
    row["backdoor"] = not_taken(group, asr)
    row["poisoned"] = _poisoned(group)
    row["parameters"] = _own_parameters(group[0])
    measured = {
        metric: [r.metrics[metric] for r in group if metric in r.metrics]
        for metric in COLUMNS[kind]
    }
    if kind == "detection":
        measured["fpr_clean_model"] = _false_positives(group[0], records)
    for metric, values in measured.items():
        row[metric] = estimate(values) if values else None
    claimed = cell.uses_defaults and (kind == "attack" or not row["backdoor"])
    row["claim"] = claim(cell.attack, cell.defense) if claimed else ""
    row["remark"] = remark(cell) if cell.uses_defaults else ""
    row["gates"] = gates.verdict(group)
    row["identity"] = group[0].series[:8]
    return row


def _poisoned(group: list[Record]) -> str:
    """The share of the training set that is poison, in per cent, as it was measured."""
    shares = {
        f"{100 * r.poison['poisoned_samples'] / r.poison['training_samples']:.3g}"
        for r in group
        if r.poison.get("poisoned_samples")
    }
    return ", ".join(sorted(shares))


def _own_parameters(record: Record) -> str:
    """What the data set had changed of the attack's own defaults, beside its poison rate."""
    asked = record.identity.get("asked", {}).get("attack_params", {})
    given = {"poison_rate", *dict(record.cell.attack_params)}
    return " ".join(f"{name}={_short(asked[name])}" for name in asked if name not in given)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _false_positives(of: Record, records: list[Record]) -> list[float]:
    """The same detector's FPR on clean models that were made and measured in the same way."""
    version = defense_version(of)
    clean = [
        record
        for record in select(records, "detection")
        if record.cell.attack == "none" and defense_version(record) == version
    ]
    return [r.metrics["fpr"] for r in clean if "fpr" in r.metrics]


def defense_version(record: Record) -> str:
    """Equal for records of one defense, made and measured in the same way, whatever the attack."""
    return key(without(record.identity, "seed", "attack", "attack_params", "control"))


def verdicts(records: Iterable[Record]) -> dict[str, str]:
    """Cell without its seed -> pass, fail or not gated, by the mean over its seeds."""
    return {name_of(group[0]): gates.verdict(group) for group in seeds_together(records)}


def with_params(name: str, params: Any) -> str:
    return name + "".join(f" {key}={value}" for key, value in params)


def info(attack: str, field: str) -> str:
    """What an attack says of itself; nothing where its plugin is not loaded here."""
    return str(getattr(ATTACKS[attack].info, field)) if attack in ATTACKS else ""


def summary(attack: str) -> str:
    return ATTACKS[attack].summary if attack in ATTACKS else ""


def commands(records: Iterable[Record]) -> str:
    """The commands that made some records, for the line under a table."""
    found = dict.fromkeys(record.command for record in records)
    return " and ".join(f"`{command}`" for command in found if command) or "code, not a command"


def csv(records: Iterable[Record], kind: Kind) -> str:
    """Every figure as a number: for each metric its mean and half the 95 % interval."""
    return pd.DataFrame([flat(row) for row in rows(records, kind)]).to_csv(index=False)


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with each estimate as two numbers, ``name`` and ``name_ci95``."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name in METRICS:
            out[name] = value.mean if value else None
            out[f"{name}_ci95"] = value.half if value else None
        else:
            out[name] = value
    return out


def markdown(records: Iterable[Record], kind: Kind, *, brief: bool = False) -> str:
    """The table as people read it. ``brief`` leaves out what does not fit a terminal."""
    found = list(records)
    table = rows(found, kind)
    hidden = (
        {
            "dataset",
            "model",
            "needs",
            "poisoned",
            "parameters",
            "linf",
            "psnr",
            "ssim",
            "changed",
            "ra_before",
            "remark",
        }
        if brief
        else set()
    )
    if kind != "attack":
        hidden |= {"poisoned", "parameters"}
    if not mixed(select(found, kind)):
        hidden.add("identity")
    shown = []
    for row in table:
        out = {}
        for name, value in row.items():
            if name in hidden:
                continue
            metric = METRICS.get(name)
            heading = _heading(name) if metric is None else metric.heading
            out[heading] = value if metric is None else show(name, value)
        shown.append(out)
    frame = pd.DataFrame(shown)
    if frame.empty:
        return ""
    empty = [c for c in frame.columns if (frame[c] == "").all()]
    frame = frame.drop(columns=empty)
    return frame.to_markdown(
        index=False, tablefmt="simple" if brief else "github", disable_numparse=True
    )


def _heading(name: str) -> str:
    return {
        "claim": "the study claims",
        "remark": "why it fails",
        "backdoor": "the attack",
        "poisoned": "poisoned (%)",
        "parameters": "for this data set",
    }.get(name, name)


def show(name: str, value: Estimate | None) -> str:
    """A metric's mean and half its interval, as people read them."""
    if value is None:
        return ""
    text = METRICS[name].show
    return text(value.mean) if value.half is None else f"{text(value.mean)} ± {text(value.half)}"


def claim(attack: str, defense: str) -> str:
    """The seed study's claim for a cell, as text; empty where it made none."""
    claims = _claims()
    if defense != "none":
        found = claims["defense"].get(defense, {}) if attack != "none" else {}
        return str(found.get("claim", ""))
    found = claims["attack"].get(attack)
    return f"{found['clean_accuracy']:.0%} / {found['asr']:.0%}" if found else ""


def notebook(name: str) -> str:
    """What the study's notebooks show of a plugin, where that contradicts its claim."""
    claims = _claims()
    found = claims["attack"].get(name) or claims["defense"].get(name) or {}
    return str(found.get("notebook", ""))


def remark(cell: Cell) -> str:
    """Why a defense fails here by its nature, in one clause; empty where nothing was written."""
    found: Any = _remarks()
    for name in (cell.dataset, cell.model, cell.defense, cell.attack):
        found = found.get(name, {})
    return str(found or "")


@lru_cache(maxsize=1)
def _remarks() -> dict[str, Any]:
    return files.read_toml(Path(__file__).with_name("remarks.toml"))


@lru_cache(maxsize=1)
def _claims() -> dict[str, Any]:
    return files.read_toml(Path(__file__).with_name("claims.toml"))


def datasets_of(records: Iterable[Record]) -> str:
    """The data sets and models behind a table, for its title."""
    return ", ".join(dict.fromkeys(f"{r.cell.dataset} / {r.cell.model}" for r in records))


def seeds_of(records: Iterable[Record]) -> str:
    """``0, 4, 7``, or ``0 to 11`` where none is left out."""
    seeds = sorted({r.cell.seed for r in records})
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
