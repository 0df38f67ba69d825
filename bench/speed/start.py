"""How long until something happens: importing PyTorch, asking for help, collecting."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.environment import CHECKOUT
from bench.speed.clock import child, interleaved, table


def measure(data: Path | None, repeats: int) -> list[str]:
    """Every command in a process of its own."""
    mnist = ["--dataset", "mnist", *(["--data-dir", str(data)] if data else [])]
    with tempfile.TemporaryDirectory() as scratch:
        commands = {
            "`import torch`": ["-c", "import torch"],
            "`python -m bench list --help`": ["-m", "bench", "list", "--help"],
            "`pytest bench --collect-only`": [
                "-m", "pytest", str(CHECKOUT / "bench"), "-q", "--collect-only", *mnist,
                f"--rootdir={CHECKOUT}", f"--results-dir={scratch}", "-p", "no:cacheprovider",
            ],
        }  # fmt: skip
        times, _ = interleaved({name: _timed(c) for name, c in commands.items()}, repeats)
    first, _, last = (took.median for took in times.values())
    return [
        *table([{"command": name, "time": str(took)} for name, took in times.items()]),
        "",
        f"Collection takes {last - first:.2f} s beyond importing torch.",
    ]


def _timed(arguments: list[str]) -> Callable[[int], float]:
    return lambda _: child([sys.executable, *arguments]).seconds
