"""How near does one training step come to what this machine can multiply?"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.speed.clock import Times, interleaved, table
from fixtures import datasets, models
from fixtures.datasets import Dataset, ImageSet
from fixtures.recipes import Recipe
from fixtures.training import autocast, fit, numerics

BATCH = 128
STEPS = 150
SIDES = (1024, 2048, 4096)
SHOWN = 12


def measure(data: Path | None, repeats: int) -> list[str]:
    """FLOP are counted by torch.utils.flop_counter; a step is all of `fit`, its indexing too."""
    ds = datasets.load("mnist", data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    few = ds.train.take(torch.arange(STEPS * BATCH))
    dtype = getattr(torch, numerics(device))
    flop = flop_of_a_step(ds, device)
    steps(ds, few, device)  # the first ones pay for libraries that are loaded and memory that grows
    times, returned = interleaved(
        {
            "step": lambda _: steps(ds, few, device),
            "peak": lambda _: _peak(dtype, device),
        },
        max(5, repeats),
    )
    peaks = returned["peak"]
    shares = Times(tuple(flop / s / p for s, p in zip(times["step"].seconds, peaks, strict=True)))
    rows = [
        {
            "device": device.type,
            "dtype": numerics(device),
            "matrix multiply, peak": f"{sorted(peaks)[len(peaks) // 2] / 1e9:.0f} GFLOP/s",
            "a step": f"{1e3 * times['step'].median:.2f} ms",
            "GFLOP a step": f"{flop / 1e9:.2f}",
            "achieved": f"{flop / times['step'].median / 1e9:.0f} GFLOP/s",
            "share of the peak": f"{shares.median:.0%} "
            f"({min(shares.seconds):.0%} to {max(shares.seconds):.0%})",
        }
    ]
    return [
        f"MNIST, SimpleCNN, batches of {BATCH}, {STEPS} steps a round. The peak is the fastest of "
        f"square matrix products of {', '.join(map(str, SIDES))} in the same dtype.",
        "",
        *table(rows),
        "",
        "Where a step's time goes, by operator (torch.profiler, which slows small ones down):",
        "",
        *table(_operators(ds, few, device)),
    ]


def reference() -> float:
    """Seconds of a fixed workload, 150 training steps, to compare machines by: needs no data."""
    images = torch.rand(STEPS * BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    few = ImageSet(images, torch.arange(len(images)) % 10)
    net = models.MODELS.create("simplecnn", shape=(1, 28, 28), num_classes=10)
    began = time.perf_counter()
    fit(net, few, _recipe(), generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - began


def steps(ds: Dataset, few: ImageSet, device: torch.device) -> float:
    """Seconds of one training step, on average."""
    net = models.build("simplecnn", ds).to(device)
    began = time.perf_counter()
    fit(net, few, _recipe(), generator=torch.Generator().manual_seed(0))
    return (time.perf_counter() - began) / STEPS


def _recipe() -> Recipe:
    return Recipe(epochs=1, min_steps=1, batch_size=BATCH, min_batches=1)


def flop_of_a_step(ds: Dataset, device: torch.device) -> int:
    net = models.build("simplecnn", ds).to(device)
    with FlopCounterMode(display=False) as counter, autocast(device):
        net(ds.train.batch(torch.arange(BATCH), device)).sum().backward()
    return int(counter.get_total_flops())


def _peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the fastest matrix product."""
    best = 0.0
    for side in SIDES:
        a = torch.ones(side, side, dtype=dtype, device=device)
        for _ in range(4):
            began = time.perf_counter()
            float((a @ a)[0, 0])  # asking for a value waits for a GPU
            best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def _operators(ds: Dataset, few: ImageSet, device: torch.device) -> list[dict[str, str]]:
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    net = models.build("simplecnn", ds).to(device)
    with profile(activities=activities) as profiled:
        fit(net, few, _recipe(), generator=torch.Generator().manual_seed(0))
    found = sorted(profiled.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in found)
    return [
        {
            "operator": f"`{event.key}`",
            "ms a step": f"{event.self_cpu_time_total / 1e3 / STEPS:.2f}",
            "share": f"{event.self_cpu_time_total / total:.1%}",
            "calls a step": f"{event.count / STEPS:.1f}",
        }
        for event in found[:SHOWN]
    ]
