"""pytest-xdist: each victim is trained once, and the tables are a serial run's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.analysis.completeness import NAMES
from bench.harness.workers import cores, share
from bench.store import records

PIXEL = ("--attack=pixel", "--defense=none,activation_clustering,fine_pruning")


def tables(results):
    measured = [name for name in NAMES.values() if name != "training"]
    return {name: (results / f"{name}.csv").read_text() for name in measured}


@pytest.fixture(scope="module")
def run(checkout, surroundings):
    """The benchmark on `tiny`, one thread for each worker; its output and results."""

    def run(folder, *arguments):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "bench", "-v", "-p", "tiny", "-p", "undrawn"),
                *("--dataset=tiny", f"--results-dir={folder / 'results'}", *PIXEL, *arguments),
            ],
            cwd=checkout,
            env=surroundings(TRIGGERBENCH_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout, folder / "results"

    return run


@pytest.fixture(scope="module")
def serial(run, tmp_path_factory):
    _, results = run(tmp_path_factory.mktemp("serial"))
    return tables(results)


@pytest.mark.parametrize("mode", [(), ("--dist", "load")], ids=["scheduled", "load"])
def test_workers_train_each_victim_once_and_give_the_same_tables(mode, run, serial, tmp_path):
    output, results = run(tmp_path, "-n", "2", *mode)
    assert tables(results) == serial
    assert "3 passed" in output
    found = records.load_all(results)
    assert len(found) == 3
    # Trained twice, it would have taken two different times.
    assert len({record.timings["train_s"] for record in found}) == 1
    assert all(record.timings["train_s"] > 0 for record in found)


@pytest.mark.parametrize(
    ("available", "workers", "expected"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3, 4]]),
        ([3, 7], 5, [[3], [7], [3], [7], [3]]),
        ([], 2, [[], []]),
    ],
)
def test_workers_share_the_cores(available, workers, expected):
    assert [share(available, number, workers) for number in range(workers)] == expected


@pytest.mark.skipif(not cores(), reason="this system pins no thread to a core")
def test_a_worker_keeps_its_threads_and_gives_up_the_other_cores():
    program = """
import os, pathlib, torch
from bench.harness.workers import cores, keep_to
before, mine = torch.get_num_threads(), cores()[:1]
keep_to(mine)
torch.rand(400, 400) @ torch.rand(400, 400)
threads = [int(thread.name) for thread in pathlib.Path("/proc/self/task").iterdir()]
print(torch.get_num_threads() == before, all(os.sched_getaffinity(t) == set(mine) for t in threads))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]
