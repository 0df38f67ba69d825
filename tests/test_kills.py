"""Killed at any moment, a run loses nothing that was finished and keeps nothing that was not."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from bench import Cell, run
from bench.runtime import files
from bench.runtime.holder import this_process
from bench.runtime.workspace import Workspace
from bench.store import records

TINY = (
    *("-p", "tiny", "-p", "undrawn", "--dataset=tiny", "--attack=none,pixel,blended"),
    "--defense=none,activation_clustering",
)
EVERY_ATTACK = ("--dataset=digits", "--attack=*", "--defense=none,activation_clustering")


@pytest.fixture
def one_thread():
    """What forks while other threads compute may wait for them for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def dies(folder, at, work):
    """Whether another process that does the work is killed before line ``at`` of its module.

    Lines are counted as they are run. What it was writing in ``folder`` is left half-written.
    """
    child = os.fork()
    if child == 0:
        lines = itertools.count()

        def trace(frame, event, _):
            if frame.f_code.co_filename != files.__file__:
                return None
            if event == "line" and next(lines) == at:
                for part in folder.rglob("*.part"):
                    os.truncate(part, part.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        try:
            sys.settrace(trace)
            work()
            code = 0
        finally:
            os._exit(code)  # the tests go on in the parent only
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("one_thread")
def test_killed_before_any_line_that_handles_a_file_a_run_picks_up_where_it_was(
    tmp_path, monkeypatch
):
    # Files are the point, not figures.
    monkeypatch.setattr("bench.victims.train.fit", lambda *_, **__: [])
    cell = Cell("tiny")
    whole = run(cell, Workspace(cache=tmp_path / "whole", device="cpu"))
    seen = set()
    for line in itertools.count():
        at = Workspace(cache=tmp_path / str(line), device="cpu")
        at.cache.mkdir()
        if not dies(at.cache, line, lambda at=at: run(cell, at)):
            break
        trained = bool(list(at.cache.glob("victims/[!.]*.json")))
        measured = bool(list(at.cache.glob("records/[!.]*.json")))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is damaged
            again = run(cell, at)
        assert again.metrics == whole.metrics
        assert again.reused == measured
        assert measured or again.victim == ("loaded" if trained else "trained")
        assert not list(at.cache.rglob("*.part"))
        seen.add((trained, measured, bool(list(at.cache.glob("victims/*.safetensors")))))
    assert line > 30, "it was not traced"
    assert {(trained, measured) for trained, measured, _ in seen} == {
        (False, False),
        (True, False),
        (True, True),
    }


@pytest.fixture
def start(tmp_path, surroundings, checkout):
    """Start the benchmark in a process group of its own, with its own cache."""
    started = []

    def start(*arguments, results="results", cache="cache"):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *arguments),
                f"--results-dir={tmp_path / results}",
            ],
            cwd=checkout,
            env=surroundings(TRIGGERBENCH_CACHE=str(tmp_path / cache)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def tables_in(folder):
    """The tables of a run as text, less the command that made them."""
    return {
        name: (folder / f"{name}.csv").read_text()
        for name in ("attacks", "detection")
        if (folder / f"{name}.csv").exists()
    }


def finished(cache):
    """Victims that are whole: name -> inode, which changes when a file is written anew."""
    return {path.name: path.stat().st_ino for path in (cache / "victims").glob("*.json")}


def progress(cache):
    """How many victims and records are there."""
    return len([*(cache / "victims").glob("[!.]*.json"), *(cache / "records").glob("[!.]*.json")])


def killed_while_working(process, cache, patience, grace):
    """Kill a run after ``patience`` seconds, at the latest ``grace`` after it finished something.

    Whether it was killed: it may have been done before.
    """
    before = progress(cache)
    began, ends = time.monotonic(), float("inf")
    while process.poll() is None and time.monotonic() < min(began + patience, ends):
        if ends == float("inf") and progress(cache) > before:
            ends = time.monotonic() + grace
        time.sleep(0.01)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def loses_nothing(start, folder, cross, kills):
    """Kill runs of a cross, let the last one finish, compare it with one that was left alone.

    Whether a cell misses a gate is not the point, so long as both runs say the same.
    """
    undisturbed = start(*cross, results="whole", cache="cache of the whole")
    out, _ = undisturbed.communicate()
    assert undisturbed.returncode in (0, 1), out

    kept, cache = {}, folder / "cache"
    for patience, grace in kills:
        alive = killed_while_working(start(*cross), cache, patience, grace)
        assert alive, "nothing was left to be killed"
        now = finished(cache)
        assert {name: now.get(name) for name in kept} == kept, "a finished victim was lost"
        kept = now
        for path in (folder / "results" / "records").glob("[!.]*.json"):
            records.load(path)  # whole, or not there
    assert kept, "no run got anywhere"
    last = start(*cross)
    out, _ = last.communicate()
    assert last.returncode == undisturbed.returncode, out
    assert "damaged" not in out
    assert kept.items() <= finished(cache).items(), "trained twice"
    assert tables_in(folder / "results") == tables_in(folder / "whole")
    assert not [*cache.rglob("*.part"), *(folder / "results").rglob("*.part")]


def test_killed_twice_a_run_completes_and_loses_nothing(start, tmp_path):
    """Once amid the training after the first victim, once soon after something new is there."""
    loses_nothing(start, tmp_path, TINY, [(60, 0.3), (60, 0.1)])


@pytest.mark.nightly
def test_killed_at_ten_random_moments_a_run_completes_and_loses_nothing(start, tmp_path):
    """From amid the imports to amid a training."""
    draw = random.Random(0)
    kills = [(draw.uniform(3, 20), draw.uniform(0, 1)) for _ in range(10)]
    loses_nothing(start, tmp_path, EVERY_ATTACK, kills)


def test_a_later_write_sweeps_what_a_killed_one_left(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    part_of(dead.pid, tmp_path).write_text("half")
    alive = part_of(os.getppid(), tmp_path)
    alive.write_text("half, and going on")
    files.write(tmp_path / "record.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, "record.json"])


def part_of(pid, folder, *, host=None, age_s=0.0):
    """What a process, here or on another host, calls the file that it is writing."""
    writer = dataclasses.replace(this_process(), pid=pid)
    if host is not None:
        writer = dataclasses.replace(writer, host=host, system="0" * 8)
    part = folder / f".record.json.00ff00ff.{writer}.part"
    part.write_text("half")
    os.utime(part, (time.time() - age_s, time.time() - age_s))
    return part


def test_another_hosts_live_write_stays_on_a_shared_disk(tmp_path):
    """Its process id may be nobody's here, or somebody else's."""
    nobody = 2**22 + 1
    theirs = part_of(nobody, tmp_path, host="node-b")
    forgotten = part_of(nobody, tmp_path, host="node-c", age_s=files.ABANDONED_S + 60)
    twin = part_of(nobody, tmp_path, host=this_process().host)  # a container of the same name
    files.write(tmp_path / "record.json", "whole")
    assert {theirs, twin} <= set(tmp_path.iterdir())
    assert not forgotten.exists()


def test_two_writers_of_one_file_never_share_a_temporary_name(tmp_path, monkeypatch):
    names = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda s, to: (names.append(s.name), replace(s, to))[1])
    for _ in range(2):
        files.write(tmp_path / "record.json", "whole")
    assert len(set(names)) == 2
    assert all(str(this_process()) in name for name in names)


def test_a_lock_says_who_holds_it(tmp_path, caplog):
    path = tmp_path / "victim.safetensors"
    with files.locked(path):
        assert files.holder_of(path) == f"process {os.getpid()} on {this_process().host}"
        program = (
            "import logging, sys; from pathlib import Path; from bench.runtime import files\n"
            "logging.basicConfig(level=logging.INFO)\n"
            "with files.locked(Path(sys.argv[1])): print('mine')"
        )
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        line = waiting.stderr.readline()
    out, _ = waiting.communicate(timeout=60)
    assert f"held by process {os.getpid()} on {this_process().host}" in line
    assert out == "mine\n"
    assert files.holder_of(path) == ""
