"""A large study's records, made up: how long it takes to collect them and to write them up."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from attacks import ATTACKS
from bench.runtime.environment import environment
from bench.runtime.workspace import Workspace
from bench.spec.cell import KIND, Cell, Flavour, flavour_of
from bench.spec.identity import GROUPS, key
from bench.speed.clock import child, table
from bench.store.records import Record
from defenses import DEFENSES

ATTACKS_CROSSED, DEFENSES_CROSSED = 26, 31
"""With the clean model, and with the undefended victim, among them."""
DATA_SETS, MODELS, SEEDS = 3, 4, 3

REPAIRED = (
    *("clean_accuracy_before", "clean_accuracy", "asr_before", "asr"),
    *("ra_before", "ra", "der"),
)
METRICS: dict[Flavour, tuple[str, ...]] = {
    "attack": ("clean_accuracy", "asr", "ra", "asr_clean_model", "linf", "psnr", "ssim", "changed"),
    "samples": ("tpr", "fpr", "f1", "auroc", "false_labels"),
    "model": ("fpr", "verdict_correct", "target_found", "mask_iou"),
    "inputs": ("auroc", "tpr", "fpr", "tpr_at_5_fpr"),
    "repair": REPAIRED,
    "training": REPAIRED,
    "certified": (*REPAIRED, "certified_accuracy", "certified_at_poison", "median_certificate"),
}
DEFENDED: tuple[Flavour, ...] = ("samples", "model", "inputs", "repair")


def measure(_data: Path | None, repeats: int) -> list[str]:
    """``bench collect`` of one JSON a cell, then ``bench report`` of what that wrote."""
    rows = []
    for number in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            run, study = Path(scratch) / "run", Path(scratch) / "study"
            made = len([record.save(record.path(run)) for record in made_up()])
            bench = (sys.executable, "-m", "bench")
            collected = child((*bench, "collect", str(run), "--to", str(study)))
            written = child((*bench, "report", str(study)))
            size = (study / "records.jsonl").stat().st_size
        rows.append(
            {
                "round": number + 1,
                "records": made,
                "MB": f"{size / 1e6:.0f}",
                "collect": f"{collected.seconds:.1f} s, {collected.peak_gb:.2f} GB",
                "report": f"{written.seconds:.1f} s, {written.peak_gb:.2f} GB",
                "both": f"{collected.seconds + written.seconds:.1f} s",
            }
        )
    return [
        f"{ATTACKS_CROSSED} attacks by {DEFENSES_CROSSED} defenses by {DATA_SETS} data sets, "
        f"{MODELS} models and {SEEDS} seeds, figures drawn at random. `collect` is "
        "`python -m bench collect` of one JSON a cell into one file; `report` is "
        "`python -m bench report` of that: tables, figures, leaderboard, report. "
        "Memory is the most that the process held.",
        "",
        *table(rows),
    ]


def made_up(
    attacks: int = ATTACKS_CROSSED,
    defenses: int = DEFENSES_CROSSED,
    data_sets: int = DATA_SETS,
    models: int = MODELS,
    seeds: int = SEEDS,
) -> Iterator[Record]:
    """Records that nobody measured: the whole cross, with identities like those of real ones.

    Plugins are those that there are, the first ones by name, and invented ones beyond that.
    """
    draw = Random(0)
    here = environment(Workspace().torch_device())
    crossed = product(
        _names("data_set", ("mnist", "digits"), data_sets),
        _names("model", ("simplecnn",), models),
        _names("attack", ("none", *_without_none(ATTACKS.names())), attacks),
        _flavours(defenses).items(),
        range(seeds),
    )
    for dataset, model, attack, (defense, flavour), seed in crossed:
        yield _record(Cell(dataset, model, attack, defense, seed), flavour, here, draw)


def _record(cell: Cell, flavour: Flavour, here: dict[str, Any], draw: Random) -> Record:
    asked = {"fingerprint": _code(cell.dataset), "recipe": {"epochs": 2, "min_steps": 800}}
    parts = ("model", "attack", "training", "victims", "defense", "judging")
    identity = {
        **{group: {} for group in GROUPS},
        "asked": {**cell.to_json(), **asked},
        "code": {part: _code(getattr(cell, part, part)) for part in parts},
        "versions": {name: here[name] for name in ("torch", "torchvision", "numpy")},
        "machine": {name: here[name] for name in ("device", "dtype", "threads")},
    }
    phases = ("train", "defend", "measure")
    return Record(
        cell=cell,
        key=key(identity),
        metrics={name: draw.random() for name in METRICS[flavour]},
        timings={f"{phase}_s": draw.random() for phase in phases},
        environment=here,
        identity=identity,
        memory={f"{phase}_mib": 1000 * draw.random() for phase in phases},
        victim="loaded",
        poison={
            "poisoned_samples": 0 if cell.attack == "none" else 1710,
            "training_samples": 57_000,
            "target": 0,
            "target_samples": 7000,
        },
        command="pytest bench --suite all",
        kind=KIND[flavour],
    )


def _code(name: str) -> str:
    return key({"code": {"name": name}})


def _names(what: str, known: Sequence[str], count: int) -> list[str]:
    invented = [f"{what}_{number}" for number in range(len(known), count)]
    return [*known[:count], *invented]


def _without_none(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != "none"]


def _flavours(count: int) -> dict[str, Flavour]:
    known = DEFENSES.names()
    found: dict[str, Flavour] = {"none": "attack"}
    for number, name in enumerate(_names("defense", known, count - 1)):
        found[name] = flavour_of(name) if name in known else DEFENDED[number % len(DEFENDED)]
    return found
