"""What a phase of a run costs: seconds, and the most memory the process held meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SAMPLED_EVERY_S = 0.02


@dataclass
class Cost:
    """``seconds`` of wall time; ``peak_mib``: largest resident memory of the process, in MiB.

    The memory is sampled every 20 ms, so a shorter peak is missed; what a GPU holds is not in it.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0


@contextmanager
def cost() -> Iterator[Cost]:
    """Measures its block; the figures stand once it is left."""
    spent = Cost()
    done = threading.Event()
    process = psutil.Process()

    def look() -> None:
        spent.peak_mib = max(spent.peak_mib, process.memory_info().rss / 2**20)

    def watch() -> None:
        while not done.wait(SAMPLED_EVERY_S):
            look()

    watcher = threading.Thread(target=watch, name="triggerbench-memory", daemon=True)
    look()
    watcher.start()
    began = time.perf_counter()
    try:
        yield spent
    finally:
        spent.seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        look()
