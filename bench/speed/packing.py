"""What it costs to pack a tree of image files, against reading it as people do, and to open it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.runtime.environment import CHECKOUT
from bench.speed.clock import Times, interleaved, table
from bench.speed.trees import generate
from fixtures.errors import BenchError
from fixtures.places import data_folder

TREES = ((200_000, 64), (20_000, 224))
"""How many images of which side."""

REAL = "cifar10-jpeg.zip"
"""CIFAR-10 as JPEGs; measured where it lies in the data folder."""


def measure(data: Path | None, repeats: int) -> list[str]:
    """Every contestant in a process of its own, what it imports left out."""
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for images, side in TREES:
            folder = generate(Path(scratch) / f"{side}", images, side)
            found, note = _tree(Path(scratch), folder, images, side, repeats)
            rows += found
            notes.append(note)
            shutil.rmtree(folder)
        archive = data_folder(data) / REAL
        if archive.exists():
            real = {f"packed, {REAL}": _packing(Path(scratch), str(archive))}
            times, _ = interleaved(real, repeats)
            rows += [_row(name, 60_000, took) for name, took in times.items()]
    return [
        "Seconds from the first look at the folder until all is read (or, for the loop, written). "
        "`packed` also writes, hashes, and, where images are stored as decoded, settles them: each "
        "is JPEG-encoded again until that changes nothing. `opened` is a packed set in a new "
        "process, to its fingerprint and its first batch.",
        "",
        *table(rows),
        "",
        *notes,
    ]


def _tree(
    scratch: Path, folder: Path, images: int, side: int, repeats: int
) -> tuple[list[dict[str, str]], str]:
    what = f"{images:,} of {side}x{side}"
    contestants: dict[str, Callable[[int], float]] = {
        f"Pillow in a loop, {what}": lambda _: _timed(
            scratch, "plain_loop", str(folder), str(scratch / "loop.bin")
        ),
        f"ImageFolder and DataLoader, {what}": lambda _: _timed(
            scratch, "with_dataloader", str(folder)
        ),
        f"packed, halved, {what}": _packing(scratch, str(folder), side // 2),
        f"packed, {what}": _packing(scratch, str(folder)),
        f"opened, {what}": lambda _: _timed(scratch, "packed", str(folder)),
    }
    times, _ = interleaved(contestants, repeats)
    seconds, megabytes = _called(scratch, "an_epoch", str(folder))
    return [_row(name, images, took) for name, took in times.items()], (
        f"One epoch of a network of one convolution on {what}: {seconds:.0f} s, "
        f"{megabytes:,.0f} MB of anonymous memory at most (RssAnon), PyTorch's own included."
    )


def _row(name: str, images: int, took: Times) -> dict[str, str]:
    rate = "" if name.startswith("opened") else f"{images / took.median:,.0f}"
    return {"what": name, "time": str(took), "images a second": rate}


def _packing(scratch: Path, path: str, *size: int) -> Callable[[int], float]:
    """Into an empty cache each time."""

    def run(_: int) -> float:
        shutil.rmtree(scratch / "cache", ignore_errors=True)
        return _timed(scratch, "packed", path, *size)

    return run


def _timed(scratch: Path, function: str, *arguments: Any) -> float:
    return float(_called(scratch, function, *arguments))


def _called(scratch: Path, function: str, *arguments: Any) -> Any:
    """What a function of `bench.speed.trees` returns, called in a process of its own."""
    program = f"import json; from bench.speed.trees import {function} as f; print(json.dumps(f("
    done = subprocess.run(
        [sys.executable, "-c", f"{program}{', '.join(map(repr, arguments))})))"],
        cwd=CHECKOUT,
        env={**os.environ, "TRIGGERBENCH_CACHE": str(scratch / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{function}: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
