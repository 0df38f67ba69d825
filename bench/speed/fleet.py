"""What a cross of everything takes on a cluster: measured costs, replayed through its order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from bench.analysis.frame import study_of
from bench.cluster.simulation import Cluster, Simulated, Study, cross, simulate
from bench.report.drawings import CLEAN, POISON
from bench.report.figures import png
from bench.runtime import files
from bench.spec.cell import KIND, flavour_of
from bench.speed.clock import table
from bench.store import records
from bench.store.records import Record
from fixtures.errors import BenchError
from fixtures.models import build_for

ATTACKS, DEFENSES, DATASETS, SEEDS = 26, 31, 4, 3
NODES = (1, 8, 64, 512)
SLOTS = 4
"""Runs of a node at a time: 8 cores, two for each."""

BANDWIDTH = 125e6
"""Bytes a second: a gigabit a second."""

BESIDE_S = 0.2
READING_S = {"mnist": 5.0, "cifar10_jpeg": 20.0}
IMAGENET_S = 35.0 * 60
"""A ResNet-18 on ImageNet, 16 epochs, on one A100: libffcv/ffcv-imagenet's table."""

IMAGENET_VICTIM = 4 * 11.7e6 + 0.01 * 1_281_167 * 3 * 224 * 224
"""Bytes: weights, and the pixels of one poisoned image in a hundred."""

SHAPES = {"mnist": (1, 28, 28), "cifar10_jpeg": (3, 32, 32)}
FIGURE = "cluster.png"


def measure(data: Path | None, repeats: int) -> list[str]:  # noqa: ARG001 - measured already
    """The studies whose records are committed, and an ImageNet of the same shape."""
    some = studies(Path("results"))
    wide = [replace(s, name=f"{s.name}{n}") for n, s in enumerate(islice(cycle(some), DATASETS))]
    gpus = [replace(imagenet(some[-1]), name=f"imagenet{n}") for n in range(DATASETS)]
    on_cpus, on_gpus = replayed(wide, SLOTS), replayed(gpus, 1)
    files.write(Path("results") / FIGURE, png(drawn({"CPUs": on_cpus, "GPUs": on_gpus})))
    return [
        f"{ATTACKS} attacks x {DEFENSES} defenses x {DATASETS} data sets x {SEEDS} seeds, replayed "
        "through the order of `--executor ray` with the costs of the committed records; what was "
        "not measured costs what its likes do. No time is shorter than the bound: all work over "
        f"all slots, or the longest chain. Beside its work a task costs {BESIDE_S:g} s, and a "
        f"node has {BANDWIDTH / 125e6:g} Gbit/s.",
        "",
        f"**CPUs**: {', '.join(s.name for s in some)}, come round to {DATASETS}; nodes of {SLOTS} "
        "runs at a time.",
        "",
        *_rows(on_cpus),
        "",
        "**GPUs**: a ResNet-18 on ImageNet takes 35 minutes on an A100 (libffcv/ffcv-imagenet, 16 "
        "epochs); cells take the share of a training that they take on CIFAR-10; nodes of one GPU.",
        "",
        *_rows(on_gpus),
    ]


def replayed(some: Sequence[Study], slots: int) -> dict[int, Simulated]:
    """The cross on clusters of so many nodes."""
    jobs, took, by_name = cross(some, ATTACKS, DEFENSES, SEEDS)
    return {
        nodes: simulate(jobs, took, by_name, Cluster(nodes, slots, BANDWIDTH, BESIDE_S))
        for nodes in NODES
    }


def _rows(found: Mapping[int, Simulated]) -> list[str]:
    return table(
        [
            {
                "nodes": str(nodes),
                "time": _hours(one.makespan),
                "bound": _hours(one.bound),
                "slots in use (%)": f"{100 * one.used:.0f}",
                "victims moved": f"{one.moved / 1e9:.1f} GB",
            }
            for nodes, one in found.items()
        ]
    )


def drawn(found: Mapping[str, Mapping[int, Simulated]]) -> Figure:
    """Time against nodes, and the bound below it."""
    figure = Figure(figsize=(5.6, 3.6))
    ax = figure.subplots()
    for colour, (name, by_nodes) in zip((CLEAN, POISON), found.items(), strict=True):
        nodes = list(by_nodes)
        ax.plot(nodes, [one.makespan / 3600 for one in by_nodes.values()], "o-", color=colour,
                label=name)  # fmt: skip
        ax.plot(nodes, [one.bound / 3600 for one in by_nodes.values()], ":", color=colour)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(NODES, map(str, NODES))
    ax.set_xlabel("nodes")
    ax.set_ylabel("hours, replayed; dotted: the bound")
    ax.legend(frameon=False)
    return figure


def _hours(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min"


def studies(results: Path) -> list[Study]:
    """What the committed records of a results folder cost, the smaller data set first.

    Raises BenchError where there are none.
    """
    found = []
    for name in ("mnist", "cifar10"):
        by_study: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records.load_all(results / name):
            if record.cell.is_plain and not record.not_applicable:
                by_study[study_of(record.cell)].append(record)
        found += [_study(of, some) for of, some in by_study.items()]
    if not found:
        raise BenchError(f"{results}: no records to take costs from")
    return found


def _study(of: tuple[str, str], some: Sequence[Record]) -> Study:
    trainings: dict[str, list[float]] = defaultdict(list)
    cells: dict[str, list[float]] = defaultdict(list)
    for record in some:
        trainings[record.cell.attack].append(record.timings["train_s"])
        spent = sum(s for name, s in record.timings.items() if name != "train_s")
        cells[record.cell.defense].append(spent)
    own = median(cells.pop("none"))
    first = trainings.pop("none")
    return Study(
        name=" / ".join(of),
        trainings=[median(first), *map(median, trainings.values())],
        cells=[(median(s), KIND[flavour_of(name)] != "detection") for name, s in cells.items()],
        own=own,
        victim=_bytes(some),
        reading=READING_S[some[0].cell.dataset],
    )


def imagenet(like: Study) -> Study:
    """A study whose cells cost the share of a training that they cost in another."""
    share = IMAGENET_S / like.trainings[0]
    return Study(
        name="imagenet",
        trainings=[share * s for s in like.trainings],
        cells=[(share * s, on_clean) for s, on_clean in like.cells],
        own=share * like.own,
        victim=IMAGENET_VICTIM,
        reading=600.0,
    )


def _bytes(some: Sequence[Record]) -> float:
    """Of a victim: its weights, and the pixels of its poison."""
    cell, shape = some[0].cell, SHAPES[some[0].cell.dataset]
    net = build_for(cell.model, shape, 10, seed=0, **cell.architecture)
    weights = sum(4 * value.numel() for value in net.state_dict().values())
    poison = median(one.poison["poisoned_samples"] for one in some if one.cell.attack != "none")
    return float(weights + poison * math.prod(shape))
