"""How long until something happens: importing PyTorch, asking for help, collecting."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.speed.clock import Child, benchmark, child, interleaved, mnist, table


def measure(data: Path | None, repeats: int) -> list[str]:
    """Every command in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        contestants = {
            "`import torch`": _python("-c", "import torch"),
            "`python -m bench list --help`": _python("-m", "bench", "list", "--help"),
            "`pytest bench --collect-only`": lambda number: benchmark(
                Path(scratch), str(number), "--collect-only", *mnist(data)
            ),
        }
        times, _ = interleaved(contestants, repeats)
    first, _, last = (took.median for took in times.values())
    return [
        *table([{"command": name, "time": str(took)} for name, took in times.items()]),
        "",
        f"Collection takes {last - first:.2f} s beyond importing torch.",
    ]


def _python(*arguments: str) -> Callable[[int], Child]:
    return lambda _: child([sys.executable, *arguments])
