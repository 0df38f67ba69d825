"""Of detectors of samples, models and inputs."""

from __future__ import annotations

from bench.spec.metrics.metric import Metric

DETECTION = [
    Metric(
        "tpr",
        "TPR",
        "share of poisoned training samples that are flagged; of an input detector, share of "
        "triggered test inputs that are refused at the threshold it chose",
        "higher",
        of="positives",
    ),
    Metric(
        "fpr",
        "FPR",
        "share of clean training samples that are flagged; of a model detector, share of clean "
        "models that are called backdoored; of an input detector, share of clean test inputs that "
        "are refused at the threshold it chose",
        "lower",
        of="negatives",
    ),
    Metric(
        "fpr_clean_model",
        "FPR, clean model",
        "the same detector's FPR on the model that was trained without poison",
        "lower",
        of="negatives",
    ),
    Metric(
        "f1",
        "F1",
        "harmonic mean of precision and TPR of the flags",
        "higher",
        "",
        3,
        of="positives",
    ),
    Metric(
        "auroc",
        "AUROC",
        "area under the ROC curve of the scores against the truth",
        "higher",
        "",
        3,
        of="positives",
    ),
    Metric(
        "false_labels",
        "false labels",
        "labels that hold a flagged sample though none of their samples is poisoned",
        "lower",
        "",
        1,
    ),
    Metric(
        "verdict_correct",
        "verdict correct",
        "1 if the model was called backdoored and is, or was not and is not",
        "higher",
        of="model",
    ),
    Metric(
        "suspicion",
        "suspicion",
        "a model detector's one score of the model, the largest anomaly of a class where it gives "
        "no other; comparable between models of one detector",
        unit="",
        digits=3,
    ),
    Metric(
        "aimed_fpr",
        "FPR aimed at",
        "of an input detector: the share of clean inputs that its threshold was to refuse; FPR is "
        "the share that it does refuse",
    ),
    Metric(
        "target_found",
        "target found",
        "1 if the true target is among the accused classes (all-to-all: share of the classes that "
        "are accused)",
        "higher",
        of="model",
    ),
    Metric(
        "mask_iou",
        "mask IoU",
        "intersection over union of the mask recovered for the true target, where it is at least "
        "half its largest value, and the pixels that the trigger moves by more than half a grey "
        "level in at least half of the test images; 0 where no mask was recovered",
        "higher",
        "",
        3,
    ),
    Metric(
        "tpr_at_5_fpr",
        "TPR at 5 % FPR",
        "share of triggered test inputs whose score exceeds that of 95 % of clean test inputs; "
        "inputs of every class are clean ones, those that the trigger should turn are triggered",
        "higher",
        of="positives",
    ),
    Metric(
        "covers_flagged",
        "covers flagged",
        "share of cover samples, stamped but rightly labelled, that are flagged; they count "
        "neither in TPR nor in FPR",
        of="covers",
    ),
]
