"""A packing that is killed, or not alone: resumed, waited for, and never left running."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from packs import contents, only, pack
from pictures import encoded, lay, picture

from fixtures.errors import DataError


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


@pytest.fixture
def many(tmp_path) -> Path:
    """Several chunks of images that take a while."""
    random = np.random.default_rng(0)
    image = encoded(picture(random, 128), quality=90)
    names = [f"{split}/{name}/{n}.jpg" for split, count in (("train", 600), ("test", 40))
             for name in ("cat", "dog") for n in range(count)]  # fmt: skip
    return lay(tmp_path / "many", dict.fromkeys(names, image))


PACK = (
    "import logging, sys; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
    "from pathlib import Path\n"
    "from fixtures.packing.arrangement import image_folder\n"
    "from fixtures.packing.packing import packed\n"
    "print(packed('cats', Path(sys.argv[1]), image_folder).fingerprint)"
)


def packing(source: Path, checkout: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PACK, str(source)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(ready, seconds=60.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.01)


def noted(cached: Path) -> int:
    """Chunks in the journal."""
    return sum(len(path.read_bytes().splitlines()) - 1 for path in cached.glob("*/journal.jsonl"))


def test_a_killed_packing_goes_on_where_it_was(many, cached, checkout, caplog, monkeypatch):
    first = packing(many, checkout)
    wait_for(lambda: noted(cached) >= 1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    left = noted(cached)
    assert 1 <= left < 5
    assert not [*cached.glob("*/about.json")]
    with only(cached, "journal.jsonl").open("ab") as journal:
        journal.write(b'{"first": 25')  # a line that the kill cut short
    with caplog.at_level(logging.INFO):
        resumed = pack(many)
    assert "of 1,280 images are packed already" in caplog.messages[0]
    assert not caplog.messages[0].startswith("many: 0 ")
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(cached / "elsewhere"))
    assert pack(many).fingerprint == resumed.fingerprint


def test_pixels_that_a_crash_lost_are_packed_again(many, cached, checkout, caplog):
    first = packing(many, checkout)
    wait_for(lambda: noted(cached) >= 1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    part = only(cached, "pixels.part")
    part.write_bytes(bytes(part.stat().st_size))
    found = pack(many)
    assert (contents(found).flatten(1).max(1).values > 0).all()


def test_workers_end_with_a_packing_that_is_killed(many, cached, checkout):
    import psutil

    first = packing(many, checkout)
    wait_for(lambda: noted(cached) >= 1)
    workers = psutil.Process(first.pid).children()
    assert workers
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_for(lambda: not any(w.is_running() and w.status() != "zombie" for w in workers))


def test_of_two_packings_at_once_one_waits_and_says_for_whom(many, cached, checkout):
    first = packing(many, checkout)
    wait_for(lambda: noted(cached) >= 1)
    first.send_signal(signal.SIGSTOP)  # it holds the lock for as long as it stands still
    second = packing(many, checkout)
    waits = second.stderr.readline()
    first.send_signal(signal.SIGCONT)
    printed, _ = first.communicate(timeout=120)
    again, said = second.communicate(timeout=120)
    assert printed == again != ""
    assert waits.startswith(f"data set 'cats' is being packed by process {first.pid} on ")
    assert said == ""


def test_a_worker_that_is_killed_is_one_line(many, cached, monkeypatch):
    start = subprocess.Popen

    def doomed(*arguments, **options):
        worker = start(*arguments, **options)
        worker.kill()
        return worker

    with monkeypatch.context() as patched:
        patched.setattr("fixtures.packing.pool.subprocess.Popen", doomed)
        with pytest.raises(DataError, match=r"'cats' .* \(a process that .* ended .*-9"):
            pack(many)
    assert not [*cached.glob("*/about.json")]


def test_progress_is_a_line_of_the_log_where_there_is_no_terminal(many, caplog, monkeypatch):
    monkeypatch.setattr("fixtures.packing.progress.LOG_S", 0.0)
    with caplog.at_level(logging.INFO):
        pack(many)
    assert caplog.messages[-1].startswith("packing many: 1,280 of 1,280 images, ")
