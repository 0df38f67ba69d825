from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from bench.judge import formulas
from bench.spec.metrics import METRICS
from fixtures.images import ImageSet

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2])
PREDICTED = torch.tensor([0, 1, 0, 1, 0, 0, 2])
AIMS = torch.zeros(7).long()
COUNTS = formulas.counted(LABELS, AIMS, torch.ones(7).bool())


def test_asr_leaves_out_images_of_the_target_class():
    # Of the five images of other classes, three are called 0. Counting all seven: 4/7.
    assert formulas.asr(PREDICTED, AIMS, COUNTS) == pytest.approx(3 / 5)


def test_asr_leaves_out_classes_that_the_trigger_is_not_to_work_on():
    counts = formulas.counted(LABELS, AIMS, LABELS == 2)
    assert counts.tolist() == [False] * 4 + [True] * 3
    assert formulas.asr(PREDICTED, AIMS, counts) == pytest.approx(2 / 3)


def test_robust_accuracy_is_over_the_same_images():
    assert formulas.robust_accuracy(PREDICTED, LABELS, COUNTS) == pytest.approx(2 / 5)


def test_accuracy_agrees_with_scikit_learn():
    assert formulas.accuracy(PREDICTED, LABELS) == pytest.approx(accuracy_score(LABELS, PREDICTED))


def test_a_share_of_nothing_is_an_error_not_a_number():
    with pytest.raises(ValueError, match="undefined"):
        formulas.asr(PREDICTED[:2], AIMS[:2], COUNTS[:2])


@pytest.mark.parametrize(
    ("accuracy_before", "accuracy_after", "asr_before", "asr_after", "expected"),
    [
        (0.99, 0.99, 1.0, 0.0, 1.0),  # a perfect repair
        (0.99, 0.99, 1.0, 1.0, 0.5),  # no effect
        (0.99, 0.09, 1.0, 1.0, 0.05),  # destroyed for nothing
        (0.90, 0.95, 0.5, 0.9, 0.5),  # neither a gain nor a worse ASR counts
        (0.99, 0.89, 1.0, 0.2, 0.85),
    ],
)
def test_der_by_hand(accuracy_before, accuracy_after, asr_before, asr_after, expected):
    assert formulas.der(accuracy_before, accuracy_after, asr_before, asr_after) == pytest.approx(
        expected
    )


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_detection_agrees_with_scikit_learn(seed):
    noise = np.random.default_rng(seed)
    truth = noise.random(40) < 0.3
    truth[:2] = [True, False]
    flags, scores = noise.random(40) < 0.4, noise.random(40)
    figures = formulas.detection(
        torch.from_numpy(scores), torch.from_numpy(flags), torch.from_numpy(truth)
    )
    tn, fp, fn, tp = confusion_matrix(truth, flags).ravel()
    assert figures["tpr"] == pytest.approx(tp / (tp + fn))
    assert figures["fpr"] == pytest.approx(fp / (fp + tn))
    assert figures["f1"] == pytest.approx(f1_score(truth, flags))
    assert figures["auroc"] == pytest.approx(roc_auc_score(truth, scores))


def test_on_a_clean_set_only_the_false_positives_are_defined():
    flags = torch.tensor([True, False, False, False])
    figures = formulas.detection(torch.zeros(4), flags, torch.zeros(4).bool())
    assert figures == {"fpr": 0.25}


def test_tpr_at_five_per_cent_by_hand():
    clean = torch.arange(100.0)  # 5 % of them lie above 94
    triggered = torch.tensor([94.5, 94.6, 50.0, 1000.0])
    truth = torch.arange(104) >= 100
    figures = formulas.screening(torch.cat([clean, triggered]), truth)
    assert figures["tpr_at_5_fpr"] == pytest.approx(3 / 4)


def test_stealth_by_hand():
    clean = torch.zeros(2, 1, 16, 16)
    triggered = clean.clone()
    triggered[:, :, :4, :4] = 0.5
    labels = torch.zeros(2, dtype=torch.int64)
    figures = formulas.stealth(ImageSet(clean, labels), ImageSet(triggered, labels))
    assert figures["linf"] == pytest.approx(128 / 255)  # rounded to a byte
    assert figures["changed"] == pytest.approx(16 / 256)
    assert figures["psnr"] == pytest.approx(
        10 * np.log10(1 / ((128 / 255) ** 2 * 16 / 256)), abs=1e-4
    )
    assert figures["ssim"] < 1


def test_no_change_is_perfect_stealth():
    images = ImageSet(torch.rand(3, 1, 16, 16), torch.zeros(3, dtype=torch.int64))
    assert formulas.stealth(images, images) == {"linf": 0.0, "ssim": 1.0, "changed": 0.0}


def test_every_metric_is_defined():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.definition
