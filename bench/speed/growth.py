"""What a larger question costs: more images, more poison, more defenses, more seeds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attacks import ATTACKS
from bench.speed.clock import benchmark, interleaved, table
from bench.victims.poison import planned, stamped
from fixtures import datasets, models
from fixtures.datasets import Dataset
from fixtures.recipes import Recipe
from fixtures.training import activations, fit

IMAGES = (7_125, 14_250, 28_500, 57_000)
RATES = (0.01, 0.1, 0.3)
DEFENSES = ("none", "none,activation_clustering", "*")
SEEDS = (1, 2, 4)


def measure(data: Path | None, repeats: int) -> list[str]:
    """Images and poison on MNIST, one epoch; defenses and seeds on digits, the pixel, cold."""
    ds = datasets.load("mnist", data)
    with tempfile.TemporaryDirectory() as scratch:
        digits = _Digits(Path(scratch))
        contestants: dict[str, Callable[[int], Any]] = {
            **{f"an epoch, {n} images": _epoch(ds, n, 0.03) for n in IMAGES},
            **{f"activations, {n} images": _activations(ds, n) for n in IMAGES},
            **{f"an epoch, {IMAGES[1]} images, {r:.0%} poison": _epoch(ds, IMAGES[1], r)
               for r in RATES},
            **{f"digits, `--defense '{d}'`": digits.run("--defense", d) for d in DEFENSES},
            **{f"digits, `--seeds {n} --defense activation_clustering`":
               digits.run("--seeds", str(n), "--defense", "activation_clustering") for n in SEEDS},
        }  # fmt: skip
        times, returned = interleaved(contestants, repeats)
    rows = [
        {"what": name, "time": str(took), "peak memory": _memory(returned[name])}
        for name, took in times.items()
    ]
    return [
        "`digits` runs are `pytest bench --dataset digits --attack pixel` in a process of "
        "their own, from an empty cache.",
        "",
        *table(rows),
    ]


def _epoch(ds: Dataset, images: int, rate: float) -> Callable[[int], float]:
    attack = ATTACKS.create("pixel", shape=ds.shape, poison_rate=rate)

    def run(seed: int) -> float:
        few = ds.train.take(torch.arange(images))
        net, began = models.build("simplecnn", ds, seed=seed), time.perf_counter()
        poison = stamped("pixel", attack, few, planned("pixel", attack, few, seed), seed)
        recipe = Recipe(epochs=1, min_steps=1, min_batches=1)
        fit(net, poison.onto(few), recipe, generator=torch.Generator().manual_seed(seed))
        return time.perf_counter() - began

    return run


def _activations(ds: Dataset, images: int) -> Callable[[int], Any]:
    net = models.build("simplecnn", ds)
    return lambda _: activations(net, ds.train.take(torch.arange(images)))


class _Digits:
    """Runs of the small cross, each with an empty cache."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._runs = 0

    def run(self, *arguments: str) -> Callable[[int], Any]:
        def once(_: int) -> Any:
            self._runs += 1
            options = ("--dataset", "digits", "--attack", "pixel")
            return benchmark(self._scratch, str(self._runs), *options, *arguments)

        return once


def _memory(returned: list[Any]) -> str:
    peaks = [one.peak_gb for one in returned if hasattr(one, "peak_gb")]
    return f"{max(peaks):.2f} GB" if peaks else ""
