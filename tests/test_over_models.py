"""Detectors of models are judged over 20 models at least, half of them clean."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.analysis.over_models import TITLE, interval
from bench.analysis.series import measured
from bench.analysis.studies import studies


@pytest.fixture
def scored(make_record):
    """Records of one detector of models: attack -> its score of each seed's model."""

    def make(**scores):
        return [
            make_record(attack, "neural_cleanse", seed, suspicion=score, verdict_correct=1.0)
            for attack, values in scores.items()
            for seed, score in enumerate(values)
        ]

    return make


def table_of(records):
    (study,) = studies(measured(records))
    return next(table for table in study.tables if table.title == TITLE)


def figures(records):
    return {row["attack"].text: row["AUROC"].text for row in table_of(records).rows}


def test_a_detector_that_scores_every_attacked_model_higher_has_an_auroc_of_one(scored):
    (row,) = table_of(scored(none=range(10), pixel=range(10, 20))).rows
    assert row["models"].text == "20"
    assert row["AUROC"].text == "1.000 (0.800 to 1.000)"
    assert row["AUROC"].provenance.startswith("seeds 0 to 9;")
    assert row["against its nulls"].text == ""


def test_under_twenty_models_nothing_is_said(scored):
    assert figures(scored(none=range(9), pixel=range(10, 19))) == {
        "pixel": "18 models: too few to say"
    }


def test_only_seeds_that_both_have_count(scored):
    assert figures(scored(none=range(12), pixel=range(10, 19))) == {
        "pixel": "18 models: too few to say"
    }
    assert figures(scored(pixel=range(10))) == {"pixel": "0 models: too few to say"}


def test_scores_that_tell_nothing_do_not_beat_chance(scored):
    (row,) = table_of(scored(none=range(10), pixel=range(10))).rows
    assert row["AUROC"].value == 0.5
    assert row["against its nulls"].text == "does not beat chance"


@pytest.mark.parametrize("models", [10, 30])
@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
def test_the_interval_of_an_auroc_holds_the_truth_as_often_as_it_says(models, apart):
    from scipy.stats import norm

    draw, true, held = np.random.default_rng(0), float(norm.cdf(apart / 2**0.5)), 0
    for _ in range(300):
        attacked, clean = draw.normal(apart, 1, models), draw.normal(0, 1, models)
        found = roc_auc_score([1] * models + [0] * models, [*attacked, *clean])
        low, high = interval(found, models, models)
        held += low <= true <= high
    assert held / 300 >= 0.92
