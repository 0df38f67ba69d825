"""Seconds and memory of a block, on a GPU too: what was started there counts, and is waited for."""

from __future__ import annotations

import time

import pytest
import torch

from bench.runtime.costs import cost


def test_seconds_and_memory_of_a_block_are_measured():
    with cost() as spent:
        held = torch.ones(40 * 2**20 // 4)
        time.sleep(0.1)
    assert 0.1 <= spent.seconds < 5
    assert held.nbytes / 2**20 < spent.peak_mib < 50_000
    assert spent.gpu_mib == 0


@pytest.fixture
def gpus(monkeypatch):
    """Two pretended GPUs; what is asked of them is kept, in order."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda gpu: asked.append(("wait", gpu)))
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda gpu: asked.append(("reset", gpu))
    )
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu: (gpu + 1) * 2**20)
    return asked


def test_gpus_are_waited_for_at_both_ends_and_their_memory_is_counted(gpus):
    with cost() as spent:
        gpus.append(("block", None))
    waits = [("wait", 0), ("wait", 1)]
    at = gpus.index(("block", None))
    assert set(gpus[:at]) == {*waits, ("reset", 0), ("reset", 1)}
    assert gpus[at + 1 :] == waits
    assert spent.gpu_mib == 3


def test_a_block_that_fails_is_measured_too(gpus):
    with pytest.raises(ValueError, match="on purpose"), cost() as spent:
        raise ValueError("on purpose")
    assert spent.seconds > 0
    assert spent.gpu_mib == 3
