"""Attacks and defenses on a tree of large images, from the files to the verdicts."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.measure import run
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.speed.clock import table
from bench.speed.trees import CLASSES, generate
from bench.victims import victim
from fixtures import datasets

IMAGES, SIDE = 2_000, 224
MODELS = {"timm:resnet18": "sgd", "vit": "adamw"}
"""Each with the recipe by which it is trained, one epoch."""

ATTACKS = ("pixel", "blended")
DEFENSES = {"fine_pruning": {}, "neural_cleanse": {"classes": 5, "steps": 40}}

IMAGENET = 1_281_167
"""Training images of ImageNet-1k."""


def measure(_data: Path | None, _repeats: int) -> list[str]:
    """Once: it takes half an hour, most of it the search for what sleeps in repaired networks."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = generate(Path(scratch) / "tree", IMAGES, SIDE)
        began = time.perf_counter()
        found = datasets.load("folder", None, path=str(tree))
        packing = time.perf_counter() - began
        workspace = Workspace(cache=Path(scratch) / "cache")
        rows, rates = [], {}
        for model, recipe in MODELS.items():
            for attack in ATTACKS:
                cell = Cell(
                    "folder",
                    model,
                    attack,
                    dataset_params={"path": str(tree)},
                    attack_params={"poison_rate": 0.1},
                    recipe=recipe,
                    recipe_params={"epochs": 1, "min_steps": 1},
                )
                trained = victim(cell, workspace).training
                rates[model] = len(found.train) / trained.seconds
                row = {"model": model, "attack": attack, "training, s": f"{trained.seconds:.0f}"}
                most = trained.peak_mib
                for defense, params in DEFENSES.items():
                    record = run(replace(cell, defense=defense, defense_params=params), workspace)
                    row[f"{defense}, s"] = f"{record.timings['defend_s']:.0f}"
                    most = max(most, *record.memory.values())
                rows.append({**row, "memory, GiB": f"{most / 1024:.1f}"})
    per_image = 3 * SIDE * SIDE
    hours = [f"{IMAGENET / rate / 3600:.0f} hours of {model}" for model, rate in rates.items()]
    return [
        f"{IMAGES:,} generated JPEGs of {SIDE}x{SIDE} in {CLASSES} classes, packed in "
        f"{packing:.0f} s; one epoch, a tenth poisoned; Neural Cleanse over five of the classes, "
        "40 steps. Memory is the most that a process held. No accuracy is claimed of generated "
        "images.",
        "",
        *table(rows),
        "",
        f"ImageNet-1k has {IMAGENET:,} training images: packed at this size "
        f"{IMAGENET * per_image / 1e9:.0f} GB of disk; at these rates, on this machine, an epoch "
        f"is {' and '.join(hours)}. Tiny-ImageNet, 100,000 of 64x64: 1.2 GB.",
    ]
