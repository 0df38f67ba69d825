"""What must not happen, done to the benchmark on purpose: each test does the thing it names."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest

from bench import Cell, run
from bench.runtime.deadline import CellTimeout, deadline
from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.spec.job import victim_job
from fixtures import datasets
from fixtures.errors import BenchError

COUNTING = '''
import os
from attacks import Attack, attack


@attack("counted", level=1, needs="training", source="this test")
class Counted(Attack):
    """A white corner; every batch that it is trained on leaves a byte in a file."""

    def forward(self, images):
        stamped = images.clone()
        stamped[..., :4, :4] = 1.0
        return stamped

    def on_batch(self, *batch):
        with open(os.environ["COUNTED"], "ab") as file:
            file.write(b".")
        return super().on_batch(*batch)
'''

HANGING = '''
import time
from defenses import Repair, SampleDetector, SampleVerdict, defense


@defense("sleeper", source="this test")
class Sleeper(SampleDetector):
    """Waits for ever, and takes every exception for a dream."""

    def detect(self, view):
        while True:
            try:
                time.sleep(3600)
            except Exception:
                pass


@defense("spinner", source="this test")
class Spinner(Repair):
    """Works for ever, and gets nowhere."""

    def repair(self, view):
        while True:
            view.model(view.clean.images[:4])
'''


@pytest.fixture
def start(tmp_path, checkout, surroundings):
    """Start the benchmark on `tiny` with a module of the test's own, with its own cache."""
    started = []

    def start(*arguments, results="results", **environment):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *arguments),
                *("-p", "tiny", "--dataset=tiny", f"--results-dir={tmp_path / results}"),
            ],
            cwd=checkout,
            env=surroundings(tmp_path, TRIGGERBENCH_CACHE=str(tmp_path / "cache"), **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_of_two_runs_on_one_cache_one_trains_and_both_succeed(start, tmp_path):
    (tmp_path / "strangers.py").write_text(COUNTING)
    arguments = ("-p", "strangers", "--attack=counted", "--defense=none")
    counted = {"COUNTED": str(tmp_path / "count")}
    processes = [start(*arguments, results=f"run {n}", **counted) for n in (1, 2)]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0, out
    tiny = datasets.load("tiny")
    recipe, samples = defaults.recipe(Cell("tiny"), tiny), len(tiny.train)
    passes = recipe.passes(samples) + 1  # the last makes what the defender receives
    assert (tmp_path / "count").stat().st_size == passes * recipe.batches(samples)
    first, second = ((tmp_path / f"run {n}" / "attacks.csv").read_text() for n in (1, 2))
    assert first == second


@pytest.fixture
def measured(workspace, tmp_path):
    """A cell whose record lies in a cache of its own; its victim is the session's."""
    cell = Cell("tiny", attack="pixel", defense="activation_clustering")
    at = Workspace(cache=tmp_path / "cache", device="cpu")
    at.cache.mkdir()
    (at.cache / "victims").symlink_to(workspace.cache / "victims")
    run(cell, workspace)
    first = run(cell, at)
    (path,) = (at.cache / "records").glob("*.json")
    return cell, at, first, path


def flip(data):
    """One bit of the first digit of one figure."""
    at = re.search(rb'"fpr": \d', data).end() - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "no JSON, or not all of it"),
        (flip, "its checksum does not match"),
        (
            lambda data: data.replace(b'"schema": 4', b'"schema": 1'),
            "schema 1, this version reads 4",
        ),
        (lambda _: b"", "no JSON, or not all of it"),
        (lambda _: b"\xff\xfe", "no JSON, or not all of it"),
    ],
    ids=["truncated", "bit-flipped", "older schema", "empty", "not text"],
)
def test_a_damaged_record_is_named_set_aside_and_measured_anew(measured, damage, reason):
    cell, at, first, path = measured
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=rf"set aside and measured anew: .*{path.name}.*{reason}"):
        again = run(cell, at)
    assert again.metrics == first.metrics
    assert not again.reused
    assert path.with_name(path.name + ".damaged").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(cell, at).reused


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def one_line(result, start):
    """The only line of a run's output that tells of the trouble."""
    lines = {line for line in [*result.outlines, *result.errlines] if start in line}
    assert len({line.partition(start)[2] for line in lines}) == 1, lines
    result.stdout.no_fnmatch_line("*Traceback*")
    return lines.pop()


def test_a_full_disk_under_the_cache_is_one_line(bench, small_disk, monkeypatch):
    (small_disk / "filler").write_bytes(b"x" * 900_000)
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(small_disk))
    result = bench("--attack=none", "--defense=none", dataset="tiny")
    assert result.ret == 1
    assert "No space left on device" in one_line(result, "cannot write ")
    assert not list(small_disk.rglob("*.part"))
    folders = [small_disk / "victims", small_disk / "records"]
    assert not [path for f in folders for path in f.glob("*") if path.suffix != ".lock"]


def test_a_full_disk_under_the_results_is_one_line(bench, small_disk):
    arguments = ("--attack=none", "--defense=none", "--dataset=tiny")
    bench(*arguments).assert_outcomes(passed=1)  # in the cache from now on
    room = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * room.f_bavail * room.f_frsize)
    result = bench(*arguments, f"--results-dir={small_disk / 'results'}")
    assert result.ret != 0
    assert "No space left on device" in one_line(result, "cannot write ")
    assert not [path for path in small_disk.rglob("*") if path.suffix in (".part", ".json")]


def test_a_disk_that_fills_up_while_results_are_written_fails_the_run(bench, small_disk):
    (small_disk / "filler").write_bytes(b"x" * 1_000_000)  # room for the record, not for figures
    arguments = ("--attack=pixel", "--defense=none", f"--results-dir={small_disk / 'results'}")
    result = bench(*arguments, dataset="tiny", drawn=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: cannot write *: No space left on device"])
    assert not list(small_disk.rglob("*.part"))


def test_a_read_only_cache_is_one_line(bench, small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(small_disk / "cache"))
    result = bench("--attack=none", "--defense=none", dataset="tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith(f"ERROR: the cache ($TRIGGERBENCH_CACHE): cannot write to {small_disk}")
    assert line.endswith("Read-only file system")


def test_a_plugin_that_hangs_ends_its_own_cell(shell, tmp_path, workspace):
    (tmp_path / "strangers.py").write_text(HANGING)
    run(Cell("tiny"), workspace)  # so that the limit is not for the training
    # A defender's process starts in a second or two; where others use the cores, in over 5.
    done = shell(
        *("-p", "strangers", "--dataset=tiny", "--attack=none", "--cell-timeout=15"),
        "--defense=none,sleeper,activation_clustering,spinner",
        path=[tmp_path],
    )
    assert done.returncode == 1
    assert "2 failed, 2 passed" in done.stdout
    for name in ("sleeper", "spinner"):
        told = f"tiny-simplecnn-none-{name}-s0: took longer than --cell-timeout 15 s"
        assert told in done.stdout
    assert "Traceback" not in done.stdout
    assert "missing   2 cells have no record" in done.stdout


def deaf(naps):
    for _ in range(naps):
        with contextlib.suppress(Exception):
            time.sleep(0.1)


def test_a_plugin_cannot_swallow_its_deadline():
    with pytest.raises(CellTimeout), deadline(0.05):
        deaf(naps=20)


def test_a_deadline_leaves_no_alarm_behind():
    with pytest.raises(CellTimeout), deadline(0.05):
        time.sleep(5)
    with deadline(0.05):
        pass
    time.sleep(0.1)  # and nothing rings


def test_a_deadline_leaves_another_alarm_as_it_was():
    before = signal.setitimer(signal.ITIMER_REAL, 300.0)
    with deadline(50):
        assert signal.getitimer(signal.ITIMER_REAL)[0] <= 50
    assert 290 < signal.getitimer(signal.ITIMER_REAL)[0] <= 300
    signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.parametrize("text", ["0", "-3", "soon", "nan", "inf", ""])
def test_a_timeout_that_is_none_is_one_line(bench, text):
    result = bench(f"--cell-timeout={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--cell-timeout: {text!r} is not a number of seconds like 90" in result.stderr.str()


def test_a_deadline_outside_the_main_thread_is_an_error(monkeypatch):
    monkeypatch.setattr("threading.main_thread", lambda: None)
    with pytest.raises(BenchError, match="works in the main thread only"), deadline(1):
        pass


MEASURE = """
import json, sys
import tiny
from bench import Cell, run

for defense in ("none", "activation_clustering", "fine_pruning"):
    record = run(Cell(sys.argv[1], attack="patch", defense=defense))
    print(json.dumps([record.key, record.metrics, record.details]))
"""


@pytest.mark.parametrize("dataset", ["tiny", pytest.param("digits", marks=pytest.mark.nightly)])
def test_two_fresh_processes_measure_the_same(dataset, tmp_path, surroundings):
    """Each from nothing: its own cache, its own victims."""
    found = []
    for number in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, dataset],
            env=surroundings(TRIGGERBENCH_CACHE=str(tmp_path / str(number))),
            capture_output=True,
            text=True,
            check=True,
        )
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    assert len(found[0]) == 3
    assert found[0] == found[1]


def test_a_record_says_what_else_shaped_it(workspace):
    record = run(Cell("tiny", attack="pixel", defense="fine_pruning"), workspace)
    assert {"torch", "torchvision", "scikit-learn", "numpy", "cpu", "cpu_capability"} <= set(
        record.environment
    )
    assert {"threads", "device", "dtype", "commit", "dirty"} <= set(record.environment)
    assert set(record.timings) == {"train_s", "defend_s", "measure_s"}
    assert set(record.memory) == {"train_mib", "defend_mib", "measure_mib"}
    assert all(50 < mib < 20_000 for mib in record.memory.values())
    assert set(record.identity) == {"asked", "code", "versions", "machine"}


def test_the_threads_are_part_of_the_identity(workspace):
    import torch

    cell, threads = Cell("digits", attack="pixel"), torch.get_num_threads()
    before = victim_job(cell, workspace).key
    try:
        torch.set_num_threads(threads + 1)
        assert victim_job(cell, workspace).key != before
    finally:
        torch.set_num_threads(threads)


def test_records_of_one_cell_share_a_series_and_no_others(workspace):
    made = [run(Cell("tiny", attack="pixel", seed=seed), workspace) for seed in (0, 1)]
    other = run(Cell("tiny", attack="pixel", defense="fine_pruning"), workspace)
    assert made[0].series == made[1].series != other.series
    assert made[0].identity != made[1].identity
    assert dataclasses.replace(made[0]).series == made[0].series
