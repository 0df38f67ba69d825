"""Neural Cleanse of one ten-class model, all classes at once."""

from __future__ import annotations

from pathlib import Path

from bench import Cell
from bench.runtime.workspace import Workspace
from bench.speed.clock import interleaved, table
from bench.victims.provide import victim
from defenses import DEFENSES, ModelDetector
from defenses.trigger_search import Search


def measure(data: Path | None, repeats: int) -> list[str]:
    """A victim as the suite trains it; the defense as the suite runs it."""
    attacked = victim(Cell("mnist", attack="pixel"), Workspace(data=data))

    def inspect(seed: int) -> list[float]:
        detector = DEFENSES.create("neural_cleanse")
        assert isinstance(detector, ModelDetector)
        return detector.inspect(attacked.view(seed, detector.sees)).anomaly.tolist()

    times, found = interleaved({"all classes in one pass": inspect}, repeats)
    classes, images = len(attacked.dataset.classes), len(attacked.clean(None))
    anomalies = ", ".join(f"{max(one):.1f}" for one in found["all classes in one pass"])
    return [
        f"MNIST, SimpleCNN, pixel: {Search().steps} steps of {Search().batch} images for each of "
        f"{classes} classes, and a check on {images} clean images. Largest "
        f"anomaly index: {anomalies}.",
        "",
        *table([{"search": name, "time": str(took)} for name, took in times.items()]),
    ]
