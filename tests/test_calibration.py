"""Counting false alarms: what is counted, of which splits of the seeds."""

from __future__ import annotations

import numpy as np
import pytest

from bench.calibration.alarms import count


@pytest.fixture
def repaired(make_record):
    """Records of one repair: its ASR seed by seed."""

    def make(values):
        return [
            make_record("pixel", "fine_pruning", seed, asr=float(value))
            for seed, value in enumerate(values)
        ]

    return make


def test_seeds_that_agree_raise_no_alarm(repaired):
    found = count(repaired([0.02] * 6), keep=3, most=1000)
    assert (found.runs, found.alarmed, found.by_metric) == (20, 0, {})
    assert str(found).startswith("3 seeds accepted, 3 run: 0 of 20 runs called regressed (0.0 %)")


def test_a_seed_that_fails_alarms_wherever_it_is_new(repaired):
    """With seed 0 at 90 % the other five accept 2 %: half of the splits have it among the new."""
    found = count(repaired([0.9, *[0.02] * 5]), keep=3, most=1000)
    assert (found.runs, found.alarmed, found.by_metric) == (20, 10, {"asr": 10})


def test_with_all_seeds_accepted_some_of_them_are_run(repaired):
    found = count(repaired([0.9, *[0.02] * 5]), keep=6, most=1000)
    assert (found.accepted, found.runs, found.alarmed) == (6, 20, 0), "its spread is accepted, too"


def test_more_splits_than_wanted_are_drawn_and_the_same_again(repaired):
    values = np.random.default_rng(0).uniform(0, 0.3, 8)
    first, again = (count(repaired(values), keep=3, most=50) for _ in range(2))
    assert first == again
    assert first.runs == 50
