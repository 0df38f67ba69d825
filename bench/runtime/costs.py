"""What a phase of a run costs: seconds, and the most memory that process and GPU held meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch

SAMPLED_EVERY_S = 0.02


@dataclass
class Cost:
    """``seconds`` of wall time; ``peak_mib``: largest resident memory of the process, in MiB.

    ``gpu_mib``: the most that PyTorch held on each GPU, summed, in MiB; 0 without one. The memory
    of the process is sampled every 20 ms, so a shorter peak is missed.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0
    gpu_mib: float = 0.0


class Elsewhere(Protocol):
    """A process that does the work of a block. ``gpu_mib``: what it says to have held at most."""

    @property
    def pid(self) -> int: ...

    @property
    def gpu_mib(self) -> float: ...


@contextmanager
def cost(elsewhere: Elsewhere | None = None) -> Iterator[Cost]:
    """Measures its block; the figures stand once it is left.

    ``elsewhere``: the process whose memory counts, by default this one.

    A GPU that is in use is waited for at both ends, so that what the block started counts, and
    nothing that was started before.
    """
    spent = Cost()
    done = threading.Event()
    pid = None if elsewhere is None else elsewhere.pid

    def look() -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended, and the block will say so
            found = psutil.Process(pid).memory_info().rss / 2**20
            spent.peak_mib = max(spent.peak_mib, found)

    def watch() -> None:
        while not done.wait(SAMPLED_EVERY_S):
            look()

    for gpu in _gpus():
        torch.cuda.synchronize(gpu)
        torch.cuda.reset_peak_memory_stats(gpu)
    watcher = threading.Thread(target=watch, name="triggerbench-memory", daemon=True)
    look()
    watcher.start()
    began = time.perf_counter()
    try:
        yield spent
    finally:
        try:
            for gpu in _gpus():
                torch.cuda.synchronize(gpu)
            held = sum(torch.cuda.max_memory_allocated(gpu) for gpu in _gpus()) / 2**20
            spent.gpu_mib = held if elsewhere is None else elsewhere.gpu_mib
        finally:
            spent.seconds = time.perf_counter() - began
            done.set()
            watcher.join()
            look()


def _gpus() -> range:
    """Those that this process has used, if any: asking for another would start it."""
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
