"""What the cache holds, and what goes when it is too much."""

from __future__ import annotations

import dataclasses
import os

import pytest
from filelock import FileLock

from bench import Cell, run
from bench.__main__ import main
from bench.runtime.holder import this_process
from bench.runtime.workspace import Workspace
from bench.store import cache

HOUR = 3600


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three victims of 1 MB, used three, two and one hours before the newest record."""
    for number, name in enumerate(["old", "middle", "new"]):
        weights = tmp_path / "victims" / f"{name}.safetensors"
        weights.parent.mkdir(exist_ok=True)
        weights.write_bytes(b"0" * 10**6)
        for path in (weights.with_suffix(".json"), weights.with_suffix(".lock")):
            path.write_text("")
        for path in weights.parent.glob(f"{name}.*"):
            os.utime(path, (0, 10**9 + number * HOUR))
    record = tmp_path / "records" / "a.json"
    record.parent.mkdir()
    record.write_text("{}")
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path))
    return tmp_path


def names(folder):
    return sorted(path.name for path in (folder / "victims").glob("*.safetensors"))


def test_it_is_told_by_kind_with_size_and_age(folder, capsys):
    assert main(["cache"]) == 0
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert first == f"{folder}: 3.0 MB of at most 2.0 GB"
    assert second.split()[:4] == ["victims", "3", "3.0", "MB"]
    assert "days" in second
    assert third.split()[:2] == ["records", "1"]
    assert last == "within the limit: --prune would delete nothing"


def test_what_would_go_is_named_and_stays(folder, capsys):
    assert main(["cache", "--limit", "2.5MB"]) == 0
    out = capsys.readouterr().out
    assert "over the limit; --prune would delete 1 entries, 1.0 MB:" in out
    assert "old.safetensors" in out
    assert names(folder) == ["middle.safetensors", "new.safetensors", "old.safetensors"]


def test_the_least_recently_used_go_until_the_rest_fits(folder, capsys):
    assert main(["cache", "--limit", "1.5MB", "--prune"]) == 0
    assert "deleted 2 entries, 2.0 MB" in capsys.readouterr().out
    assert names(folder) == ["new.safetensors"]
    assert not (folder / "victims" / "old.json").exists()
    assert (folder / "records" / "a.json").exists()


def test_what_was_set_aside_goes_first(folder, capsys):
    damaged = folder / "victims" / "x.safetensors.damaged"
    damaged.write_bytes(b"0" * 10**6)
    assert main(["cache", "--limit", "3.5MB", "--prune"]) == 0
    assert not damaged.exists()
    assert len(names(folder)) == 3


def test_what_a_living_process_is_writing_stays(folder, capsys):
    mine, dead = (
        folder / "records" / f".b.json.0.{dataclasses.replace(this_process(), pid=pid)}.part"
        for pid in (os.getpid(), 2**22 + 1)
    )
    for part in (mine, dead):
        part.write_bytes(b"0")
    assert main(["cache", "--limit", "0MB", "--prune"]) == 0
    assert mine.exists()
    assert not dead.exists()


def test_a_victim_that_a_run_holds_stays(folder, capsys):
    with FileLock(folder / "victims" / "old.lock"):
        assert main(["cache", "--limit", "0.5MB", "--prune"]) == 0
    assert names(folder) == ["old.safetensors"]
    assert "over the limit" in capsys.readouterr().out


def test_all_that_lies_beside_a_victim_goes_with_it(folder, capsys):
    for suffix in ("overlay", "suspect", "triggered0"):
        path = folder / "victims" / f"old.{suffix}"
        path.write_bytes(b"0" * 10**6)
        os.utime(path, (0, 10**9))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["victims", "3", "6.0", "MB"]
    assert main(["cache", "--prune", "--limit", "2MB"]) == 0
    assert [path.name for path in (folder / "victims").glob("old.*")] == ["old.lock"]


def test_poison_without_its_victim_goes_first(folder, capsys):
    (folder / "victims" / "torn.overlay").write_bytes(b"0" * 10**6)
    assert main(["cache", "--prune", "--limit", "3.5MB"]) == 0
    assert names(folder) == ["middle.safetensors", "new.safetensors", "old.safetensors"]
    assert not (folder / "victims" / "torn.overlay").exists()


def test_a_packed_data_set_goes_whole_and_stays_while_it_is_packed(folder, capsys):
    packed = folder / "packed" / "abc"
    packed.mkdir(parents=True)
    for name in ("pixels.bin", "index.safetensors", "about.json", "pixels.lock"):
        (packed / name).write_bytes(b"0" * 10**6)
        os.utime(packed / name, (0, 10**8))
    with FileLock(packed / "pixels.lock"):
        assert main(["cache", "--prune", "--limit", "3MB"]) == 0
    assert "packed" in capsys.readouterr().out
    assert (packed / "about.json").exists()
    assert main(["cache", "--prune", "--limit", "3MB"]) == 0
    assert [path.name for path in packed.iterdir()] == ["pixels.lock"]


def test_loading_a_victim_counts_as_using_it(tmp_path):
    at = Workspace(cache=tmp_path, device="cpu")
    run(Cell("tiny"), at)
    for path in (tmp_path / "victims").iterdir():
        os.utime(path, (0, 10**9))
    at.forget()
    run(Cell("tiny"), at, rerun=True)
    (entry,) = (entry for entry in cache.entries(tmp_path) if entry.kind == "victims")
    assert entry.used > 10**9 + HOUR


def test_a_pruned_victim_is_trained_again(tmp_path):
    at = Workspace(cache=tmp_path, device="cpu")
    first = run(Cell("tiny"), at)
    cache.prune(cache.entries(tmp_path))
    assert not cache.entries(tmp_path)
    at.forget()
    again = run(Cell("tiny"), at)
    assert again.victim == "trained"
    assert not again.reused
    assert again.metrics == first.metrics


@pytest.mark.parametrize("limit", ["3", "2 TB", "GB", "-1GB"])
def test_a_wrong_limit_is_one_line(limit, folder, capsys):
    assert main(["cache", f"--limit={limit}"]) == 2
    assert capsys.readouterr().err == f"error: --limit: {limit!r} is not a size like 500MB or 2GB\n"


def test_an_empty_cache_is_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "none"))
    assert main(["cache", "--prune"]) == 0
    assert "deleted 0 entries" in capsys.readouterr().out
