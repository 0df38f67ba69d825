"""Killed at any moment, a run loses nothing that was finished and keeps nothing that was not."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch

from bench import Cell, run
from bench.runtime import files
from bench.runtime.workspace import Workspace
from bench.store import records
from bench.victims import provide as victims

TINY = (
    *("-p", "tiny", "-p", "undrawn", "--dataset=tiny", "--attack=none,pixel,noise"),
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
    monkeypatch.setattr(victims, "fit", lambda *_, **__: [])  # files are the point, not figures
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
    """Kill runs of a cross, let the last one finish, compare it with one that was left alone."""
    undisturbed = start(*cross, results="whole", cache="cache of the whole")
    out, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, out

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
    assert last.returncode == 0, out
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
    (tmp_path / f".record.json.{dead.pid}.part").write_text("half")
    alive = tmp_path / f".record.json.{os.getppid()}.part"
    alive.write_text("half, and going on")
    files.write(tmp_path / "record.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, "record.json"])
