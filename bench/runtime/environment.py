"""What a run ran on: versions, processor, threads, device, dtype, and which commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fixtures import training

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("attacks", "bench", "defenses", "fixtures", "conftest.py", "pyproject.toml")


def environment(device: torch.device) -> dict[str, Any]:
    """Plain JSON values. ``commit`` and ``dirty`` are None where the code is no git checkout."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "scikit-learn", "numpy")},
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": training.numerics(device),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None
        if (status := _git("status", "--porcelain", "--", *SOURCES)) is None
        else bool(status),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What of the machine decides the last digits of a figure, as plain JSON values.

    The device, its dtype, the processor's instructions and the number of threads; with a GPU, which
    does not do everything, its model and the versions of CUDA and cuDNN besides.
    """
    about = {
        "device": device.type,
        "dtype": training.numerics(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if device.type != "cuda":
        return about
    return about | {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


@lru_cache(maxsize=8)
def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
