"""From predictions, scores and images to the figures that `bench.spec.metrics` defines.

Labels and predictions are int64 [N], flags and masks bool [N], scores float [N]; all on the CPU.
Figures are Python floats, shares between 0 and 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score, roc_curve
from torch import Tensor

from fixtures.images import ImageSet

VISIBLE = 0.5 / 255
"""A pixel has moved when it changed by more than half a grey level: less is lost in a file."""


def share(hits: Tensor) -> float:
    """Mean of a bool tensor as a float; raises ValueError for an empty one."""
    if hits.numel() == 0:
        raise ValueError("a share of no samples is undefined")
    return float(hits.double().mean())


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of predictions [N] that equal the labels [N]."""
    return share(predicted == labels)


def counted(labels: Tensor, aims: Tensor, applies: Tensor) -> Tensor:
    """Which triggered images ASR and RA are measured on: bool [N].

    Those of the true ``labels`` [N] that the trigger ``applies`` to, bool [N], and that are not of
    the class ``aims`` [N] already.
    """
    return applies & (labels != aims)


def asr(predicted: Tensor, aims: Tensor, counts: Tensor) -> float:
    """Of the triggered images that count, see `counted`, the share called as the attacker aims."""
    return share((predicted == aims)[counts])


def robust_accuracy(predicted: Tensor, labels: Tensor, counts: Tensor) -> float:
    """Of the same images as `asr`, the share called by their true class."""
    return share((predicted == labels)[counts])


def overlap(found: Tensor, true: Tensor) -> float:
    """Intersection over union of two bool masks of one shape. ValueError where both are empty."""
    return share(found[found | true] & true[found | true])


def der(
    accuracy_before: float, accuracy_after: float, asr_before: float, asr_after: float
) -> float:
    """Defense effectiveness rating, in [0, 1]."""
    gained = max(0.0, asr_before - asr_after)
    lost = max(0.0, accuracy_before - accuracy_after)
    return (gained - lost + 1) / 2


def detection(scores: Tensor, flags: Tensor, poisoned: Tensor) -> dict[str, float]:
    """TPR, FPR, F1 and AUROC of a sample detector. Only FPR where nothing is poisoned."""
    figures = {"fpr": share(flags[~poisoned])}
    if poisoned.any():
        truth = poisoned.numpy()
        figures["tpr"] = share(flags[poisoned])
        figures["f1"] = float(f1_score(truth, flags.numpy()))
        figures["auroc"] = float(roc_auc_score(truth, scores.numpy()))
    return figures


def screening(scores: Tensor, triggered: Tensor) -> dict[str, float]:
    """AUROC of an input detector, and its TPR where 5 % of the clean inputs are refused."""
    fpr, tpr, _ = roc_curve(triggered.numpy(), scores.numpy(), drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(triggered.numpy(), scores.numpy())),
        "tpr_at_5_fpr": float(np.max(tpr[fpr <= 0.05])),
    }


def stealth(clean: ImageSet, triggered: ImageSet) -> dict[str, float]:
    """How visible a trigger is: L-infinity, PSNR, SSIM, share of pixels changed.

    Both sets hold the same images, in the same order.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    largest, squares, moved, similarity = 0.0, 0.0, 0, []
    for (_, before), (_, after) in zip(clean.batches(100), triggered.batches(100), strict=True):
        difference = (after - before).abs()
        largest = max(largest, float(difference.max()))
        squares += float(difference.double().square().sum())
        moved += int((difference > VISIBLE).sum())
        found = structural_similarity_index_measure(after, before, data_range=1.0, reduction="none")
        similarity.append(torch.as_tensor(found).flatten())
    pixels = clean.nbytes
    if largest == 0.0:  # PSNR would be infinite
        return {"linf": 0.0, "ssim": 1.0, "changed": 0.0}
    return {
        "linf": largest,
        "psnr": -10 * math.log10(squares / pixels),
        "ssim": float(torch.cat(similarity).mean()),
        "changed": moved / pixels,
    }
