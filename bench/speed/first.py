"""What a newcomer waits for: each command from an empty cache, start-up and write-up included."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from bench.runtime import files
from bench.spec import estimates
from bench.speed.cells import RESULTS
from bench.speed.clock import Times, benchmark, child, mnist, table
from bench.store import records

DIGITS = ("--dataset", "digits")
COMMANDS: dict[str, Sequence[str]] = {
    "pytest bench": DIGITS,
    "pytest bench -k patch": (*DIGITS, "-k", "patch"),
    "pytest bench --suite all": (*DIGITS, "--suite", "all"),
}
LESSER = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Holds PyTorch, oneDNN and MKL to the instructions of the slower kind of processor."""


def measure(data: Path | None, repeats: int) -> list[str]:
    """Rows for the processor as it is, and for one with AVX-512 held to AVX2 besides.

    Also writes the costs that estimates start from, `bench.spec.estimates.REFERENCE`: of these
    runs, and of the committed records where no run tells.
    """
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    kinds = {"as it is": {}, **({"held to AVX2": LESSER} if capable else {})}
    commands = {
        **{f"`{name}`, digits": arguments for name, arguments in COMMANDS.items()},
        "`pytest bench`, MNIST": mnist(data),
    }
    rows: list[dict[str, str]] = []
    known = _recorded()
    for kind, environment in kinds.items():
        workload = [_reference(environment)]
        for name, arguments in commands.items():
            seconds, first = [], []
            for number in range(repeats):
                began, took, costs = _run(f"{kind} {number}", arguments, environment)
                seconds.append(took)
                first.append(began)
                known |= costs
            workload.append(_reference(environment))
            rows.append(
                {
                    "command": name,
                    "processor": kind,
                    "first verdict": str(Times(tuple(first))),
                    "time": str(Times(tuple(seconds))),
                    "times the reference": f"{median(seconds) / median(workload):.1f}",
                }
            )
        rows.append(
            {
                "command": "the reference: 150 training steps",
                "processor": kind,
                "first verdict": "",
                "time": str(Times(tuple(workload))),
                "times the reference": "1.0",
            }
        )
    files.write(estimates.REFERENCE, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return [
        "Each command from an empty cache, in a process of its own, start-up and write-up "
        "included, installing left out. The reference is a fixed number of training steps "
        "(SimpleCNN, batches of 128 MNIST-sized images), timed before, between and after the "
        "commands: another machine is compared by the ratio. Held to AVX2 with "
        f"`{' '.join(f'{name}={value}' for name, value in LESSER.items())}`, which is how a "
        "processor without AVX-512 computes (fp32).",
        "",
        *table(rows),
    ]


def _recorded() -> dict[str, float]:
    """What victims and cells took in the committed records: the median of each kind."""
    spent: dict[str, list[float]] = {}
    for record in records.load_all(RESULTS):
        timings = record.timings
        rest = timings.get("defend_s", 0.0) + timings.get("measure_s", 0.0)
        spent.setdefault(estimates.victim_task(record.cell), []).append(timings["train_s"])
        spent.setdefault(estimates.cell_task(record.cell), []).append(rest)
    return {key: median(seconds) for key, seconds in spent.items()}


def _reference(environment: dict[str, str]) -> float:
    """Seconds of the reference workload."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "seconds"
        child(
            [sys.executable, "-c", f"from bench.speed.step import reference\n"
             f"open({str(to)!r}, 'w').write(str(reference()))"],
            environment,
        )  # fmt: skip
        return float(to.read_text())


def _run(
    name: str, arguments: Sequence[str], environment: dict[str, str]
) -> tuple[float, float, dict[str, float]]:
    """Seconds to the first verdict and to the end, and what the run learned of its costs."""
    scratch = Path(tempfile.mkdtemp())
    try:
        began = time.time()
        took = benchmark(scratch, name, *arguments, **environment).seconds
        verdicts = (scratch / f"results {name}" / "records").glob("*.json")
        first = min(path.stat().st_mtime for path in verdicts) - began
        costs = estimates.load(scratch / f"cache {name}").here
    finally:
        shutil.rmtree(scratch)
    return first, took, costs
