"""Intervals: right for shares, no point where seeds agree, and as wide as few seeds make them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.analysis.differences import apart, better, interval
from bench.analysis.seedwise import mean
from bench.analysis.series import measured
from bench.analysis.squares import show
from bench.analysis.statistics import Estimate, estimate, total
from bench.calibration.coverage import SCENARIOS, coverage


@pytest.mark.parametrize(
    ("hits", "trials"), [(0, 3), (3, 3), (0, 30_000), (5, 359), (9_991, 10_000)]
)
def test_one_seeds_interval_is_scipys_exact_one(hits, trials):
    exact = stats.binomtest(hits, trials).proportion_ci(0.95, "exact")
    assert estimate([hits / trials], trials).interval == pytest.approx((exact.low, exact.high))


def test_what_is_no_share_has_students_t():
    values = [23.0, 24.5, 22.0, 23.5]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert estimate(values).interval == pytest.approx(expected)


def test_seeds_that_agree_still_leave_the_images_to_chance():
    low, high = estimate([0.0, 0.0, 0.0], trials=30_000).interval
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 30_000))


def test_three_right_verdicts_say_little():
    assert show("verdict_correct", estimate([1.0, 1.0, 1.0], 3)) == "100.00 (29.24 to 100.00)"


@pytest.mark.parametrize("trials", [0, None])
def test_where_nobody_counted_and_seeds_agree_there_is_no_interval(trials):
    assert estimate([1.0, 1.0], trials).interval is None
    assert estimate([1.0], trials).interval is None


def test_seeds_that_differ_widen_the_interval_beyond_the_images():
    alike, unlike = estimate([0.9, 0.9, 0.9], 3000), estimate([0.8, 0.9, 1.0], 3000)
    assert width(unlike) > 5 * width(alike)
    assert unlike.interval[1] < 1.0


def test_fewer_seeds_have_a_wider_interval():
    widths = [width(Estimate(0.9, 0.05, n, 10_000 * n)) for n in (2, 3, 5, 10)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("mean_", [0.0, 0.001, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.4])
def test_a_shares_interval_stays_within_0_and_1_and_holds_the_mean(mean_, spread):
    low, high = Estimate(mean_, spread, 3, 300).interval
    assert 0 <= low <= mean_ <= high <= 1
    assert low < high


def width(figure):
    low, high = figure.interval
    return high - low


@pytest.mark.parametrize(
    ("metric", "figure", "text"),
    [
        ("asr", estimate([0.5, 0.5], 2000), "50.00 ± 2.21"),
        ("asr", estimate([0.0, 0.0], 2000), "0.00 (0.00 to 0.18)"),
        ("der", estimate([0.9]), "0.900"),
        ("asr", None, ""),
    ],
)
def test_an_interval_is_shown_by_its_ends_where_its_sides_differ(metric, figure, text):
    assert show(metric, figure) == text


@pytest.mark.parametrize(
    ("trials", "together"), [([3, 4], 7), ([3, 0], 0), ([3, None], None), ([3, float("nan")], None)]
)
def test_trials_add_up_where_all_are_known(trials, together):
    assert total(trials) == together


COUNTED = {"poison": {"triggered": 320}, "data": {"test": 359}}


@pytest.mark.parametrize(
    ("defense", "metrics", "trials"),
    [
        ("none", {"asr": 1.0, "clean_accuracy": 1.0, "psnr": 20.0, "changed": 0.1,
                  "reactivation": -0.1},
         {"asr": 320, "clean_accuracy": 359, "psnr": None, "changed": 0,
          "reactivation": None}),
        ("fine_pruning", {"der": 1.0, "asr": 0.0}, {"der": 320, "asr": 320}),
        ("activation_clustering", {"f1": 1.0, "tpr": 1.0, "fpr": 0.0, "false_labels": 0.0},
         {"f1": 3, "tpr": 3, "fpr": 97, "false_labels": None}),
        ("neural_cleanse", {"verdict_correct": 1.0, "mask_iou": 0.5},
         {"verdict_correct": 1, "mask_iou": None}),
        ("strip", {"auroc": 1.0, "tpr": 1.0, "fpr": 0.0}, {"auroc": 160, "tpr": 160, "fpr": 179}),
        ("fine_pruning", {"asr": 0.0, "company": 0.0}, {"asr": 160, "company": None}),
    ],
)  # fmt: skip
def test_a_share_knows_what_it_is_counted_over(make_record, defense, metrics, trials):
    (series,) = measured([make_record("pixel", defense, **metrics, **COUNTED)]).series
    assert {name: figure.trials for name, figure in series.figures.items()} == trials


def seeds(values, trials=10_000):
    return {seed: (value, trials) for seed, value in enumerate(values)}


def test_a_difference_is_paired_by_seed():
    """Seeds differ by 20 points, the two by one in every seed: only pairing sees it."""
    first, second = seeds([0.71, 0.811, 0.91]), seeds([0.70, 0.80, 0.90])
    assert better(first, second)
    assert not better(second, first)
    assert not apart(first, seeds([0.80, 0.90, 0.70]))


def test_a_difference_of_two_that_agree_in_every_seed_is_no_proof():
    right, wrong = seeds([1.0] * 3, 1), seeds([0.0] * 3, 1)
    assert not apart(right, wrong), "three models"
    assert apart(seeds([1.0] * 10, 1), seeds([0.0] * 10, 1)), "ten models"


def test_only_seeds_that_both_have_are_compared():
    first = seeds([0.9, 0.9, 0.9])
    other = dict.fromkeys((7, 8), (0.1, 10000))
    assert interval(first, other) is None
    low, high = interval(first, {**other, 0: (0.9, 10_000)})
    assert low < 0 < high


def test_one_seed_that_nobody_counted_tells_nothing_apart():
    assert interval(seeds([0.9], 0), seeds([0.1], 0)) is None


def test_a_mean_over_cells_is_of_seeds_that_all_have():
    assert mean([seeds([0.2, 0.4], 10), seeds([0.6], 10)]) == {0: (pytest.approx(0.4), 20)}
    assert mean([]) == {}


STEADY = [s for s in SCENARIOS if s.vary <= 0.0003 and not s.fail]


def test_intervals_hold_the_truth_as_often_as_they_say():
    for scenario in STEADY:
        assert coverage("effective trials", scenario, repeats=300) >= 0.93, scenario


def test_a_bootstrap_over_three_seeds_holds_it_far_less_often():
    for scenario in STEADY:
        if scenario.seeds == 3:
            assert coverage("bootstrap", scenario, repeats=100) < 0.88, scenario
