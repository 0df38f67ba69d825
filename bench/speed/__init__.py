"""``python -m bench speed``: what the benchmark itself costs, side by side with what it replaces.

May import all of `bench` and, unlike the rest of it, names plugins: the study is of fixed cells.
One part a file, see `PARTS`. Nothing here is a gate; what cannot be noisy is asserted by the tests
instead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.runtime import files
from bench.runtime.environment import environment
from bench.runtime.workspace import Workspace
from fixtures import datasets

PARTS = {
    "first": "The first minute",
    "graded": "Time to a graded victim",
    "step": "One training step against the machine's own peak",
    "clustering": "Activation clustering of the whole training set",
    "cleanse": "Neural Cleanse of a ten-class model",
    "start": "Starting",
    "cross": "The study's own cross",
    "referee": "A process of the defender's own",
    "cells": "What the committed studies took",
    "proofs": "Trainings with a proof",
    "growth": "How cost grows",
    "records": "Collecting and writing up a large study",
    "packing": "Packing trees of image files",
    "imagenet": "Large images, end to end",
    "overhead": "A cluster of one machine",
    "fleet": "Everything, on a cluster",
}
"""Modules of this folder; each has ``measure(data, repeats) -> list[str]``, lines of Markdown."""

WITHOUT_DATA = {"records", "packing", "imagenet", "overhead", "fleet"}
"""Parts that need no data set."""

ONCE = {"proofs", "imagenet"}
"""Parts that are measured once, whatever number of rounds is asked for."""

READ = {"cells", "fleet"}
"""Parts that are made of committed records: none of their times is of the machine that reads."""


def measure(
    page: Path, data: Path | None = None, repeats: int = 3, parts: Sequence[str] = ()
) -> Path:
    """Measure and write the page; parts that were not asked for stay as they stand on it.

    Raises BenchError where MNIST is missing, which most parts need, or the page cannot be written.
    """
    chosen = [name for name in PARTS if name in parts or not parts]
    if set(chosen) - WITHOUT_DATA:
        datasets.load("mnist", data)
    if not page.exists():
        files.write(page, INTRODUCTION)
    for name in PARTS:  # a part may be younger than the page
        if f"<!-- {name}: begin -->" not in (text := page.read_text()):
            files.write(page, text + section(name))
    for name in chosen:
        print(f"{name}: {PARTS[name].lower()} ...", flush=True)
        began = time.perf_counter()
        found = import_module(f"bench.speed.{name}").measure(data, repeats)
        seconds = time.perf_counter() - began
        text = "\n".join([*found, "", _made(name, seconds, repeats)])
        files.replace_marked(page, name, text)
        print(text, flush=True)
    return page


INTRODUCTION = (
    "# What it costs\n\nWritten by `python -m bench speed`. Contestants run side by side, "
    "interleaved; every time is a median, with the lowest and highest behind it. Absolute "
    "times move with the machine and its neighbours: compare within a table.\n"
)


def section(name: str) -> str:
    return f"\n## {PARTS[name]}\n\n{files.marked(name, '')}\n"


def _made(name: str, seconds: float, repeats: int) -> str:
    """By which command, and on what."""
    command = f"`python -m bench speed {name}`"
    if name in READ:
        return f"Made of committed records by {command}."
    rounds = "once" if name in ONCE or repeats == 1 else f"{repeats} times each"
    return f"Measured by {command} in {seconds:.0f} s, {rounds}, on {_machine()}."


def _machine() -> str:
    found = environment(Workspace().torch_device())
    names = ("torch", "torchvision", "scikit-learn", "numpy")
    versions = [f"{name} {found[name]}" for name in names]
    try:
        versions.append(f"ART {version('adversarial-robustness-toolbox')}")
    except PackageNotFoundError:
        versions.append("without ART")
    commit = str(found["commit"] or "no commit")[:10] + (" with changes" if found["dirty"] else "")
    return (
        f"{found['cpu']} ({found['cpu_capability']}, {found['threads']} threads, "
        f"{found['dtype']}), {found['device']}, Python {found['python']}, {', '.join(versions)}, "
        f"{commit}"
    )
