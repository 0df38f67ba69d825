"""Neural Cleanse of one ten-class model, all classes at once."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from bench import Cell
from bench.speed.clock import interleaved, table
from bench.victims import victim
from bench.workspace import Workspace
from defenses import DEFENSES, DefenderView, ModelDetector
from defenses.neural_cleanse import Search


def measure(data: Path | None, repeats: int) -> list[str]:
    """A victim as the suite trains it; the defense as the suite runs it."""
    attacked = victim(Cell("mnist", attack="pixel"), Workspace(data=data))
    classes = len(attacked.dataset.classes)

    def view(seed: int) -> DefenderView:
        return DefenderView(
            model=copy.deepcopy(attacked.model),
            clean=attacked.dataset.clean,
            suspect=attacked.dataset.clean,  # it does not look there
            num_classes=classes,
            generator=torch.Generator().manual_seed(seed),
        )

    def inspect(seed: int) -> list[float]:
        detector = DEFENSES.create("neural_cleanse")
        assert isinstance(detector, ModelDetector)
        return detector.inspect(view(seed)).anomaly.tolist()

    times, found = interleaved({"all classes in one pass": inspect}, repeats)
    anomalies = ", ".join(f"{max(one):.1f}" for one in found["all classes in one pass"])
    return [
        f"MNIST, SimpleCNN, pixel: {Search().steps} steps of {Search().batch} images for each of "
        f"{classes} classes, and a check on {attacked.dataset.clean.size} clean images. Largest "
        f"anomaly index: {anomalies}.",
        "",
        *table([{"search": name, "time": str(took)} for name, took in times.items()]),
    ]
