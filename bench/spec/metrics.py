"""Each metric: its definition, the direction that is better, how it is written, its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Of = Literal["test", "triggered", "positives", "negatives", "covers", "model", ""]
"""What a share is of: all test images; those that ASR is measured on; what a detector should and
should not flag (training samples, inputs or the model, by its kind); covers; the one model."""


@dataclass(frozen=True)
class Metric:
    """``better``: for the defender; ``""`` where there is no good or bad. ``digits``: decimals.

    ``of``: what it is a share of, so that its interval knows how many there were. Of a figure made
    of several shares it is the smallest set among them; ``""`` where nothing was counted.
    """

    name: str
    title: str
    definition: str
    better: Literal["higher", "lower", ""] = ""
    unit: Literal["%", "dB", ""] = "%"
    digits: int = 2
    source: str = ""
    of: Of = ""

    def show(self, value: float) -> str:
        """A value as people read it: shares in per cent, all else as it is."""
        return f"{100 * value if self.unit == '%' else value:.{self.digits}f}"

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


_ALL = [
    Metric(
        "clean_accuracy",
        "clean accuracy",
        "share of untouched test images classified as their true class",
        "higher",
        of="test",
    ),
    Metric(
        "asr",
        "ASR",
        "attack success rate: share of triggered test images, of classes that the trigger applies "
        "to and other than the target, that are classified as the target (all-to-all: as the class "
        "that follows their own; several triggers: over all of them)",
        "lower",
        source="Gu et al. 2017, arXiv:1708.06733; target-class images left out as in BackdoorBench",
        of="triggered",
    ),
    Metric(
        "ra",
        "RA",
        "robust accuracy: share of the same triggered images classified as their true class",
        "higher",
        source="Wu et al. 2022 (BackdoorBench), arXiv:2206.12654",
        of="triggered",
    ),
    Metric(
        "asr_worst",
        "ASR, worst trigger",
        "of an attack with several triggers, the ASR of the one that works least",
        "lower",
    ),
    Metric(
        "leak",
        "leak",
        "share of triggered test images of classes that the trigger is not to work on that are "
        "classified as the target",
        source="Tang et al. 2021 (TaCT), arXiv:1908.00686",
    ),
    Metric(
        "cover_accuracy",
        "cover accuracy",
        "share of test images, of the classes that ASR is measured on, that keep their class when "
        "they are changed as the attack's covers are: WaNet's accuracy in noise mode, "
        "cross-trigger accuracy of the input-aware attack",
        source="Nguyen and Tran 2021, arXiv:2102.10369, and 2020, arXiv:2010.08138",
        of="triggered",
    ),
    Metric(
        "asr_clean_model",
        "ASR, clean model",
        "ASR of this trigger on a model trained without poison: what the trigger does by itself; "
        "for a learned trigger, whether it transfers to a clean model",
        "lower",
        of="triggered",
    ),
    Metric(
        "asr_other_seed",
        "ASR, other victim",
        "ASR of a learned trigger on a victim of the same attack trained from the next seed, "
        "towards that victim's target, with that victim's own learned trigger never shown",
        "lower",
        of="triggered",
    ),
    Metric(
        "linf",
        "L-inf",
        "largest change of any pixel of any test image, pixels in [0, 1]",
        unit="",
        digits=3,
    ),
    Metric(
        "psnr",
        "PSNR",
        "peak signal-to-noise ratio of triggered against clean test images, from the mean squared "
        "error over the whole test set",
        unit="dB",
        digits=1,
    ),
    Metric(
        "ssim",
        "SSIM",
        "structural similarity of triggered and clean test images, mean",
        unit="",
        digits=3,
        source="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
    ),
    Metric(
        "changed",
        "pixels changed",
        "share of pixels that change by more than half a grey level (0.5/255), mean",
    ),
    Metric(
        "linf_train",
        "L-inf, training",
        "largest change of any pixel of a poison or cover sample from the image it was made of",
        unit="",
        digits=3,
    ),
    Metric(
        "psnr_train",
        "PSNR, training",
        "peak signal-to-noise ratio of poison and covers against the images they were made of",
        unit="dB",
        digits=1,
    ),
    Metric(
        "ssim_train",
        "SSIM, training",
        "structural similarity of poison and covers and the images they were made of, mean",
        unit="",
        digits=3,
        source="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
    ),
    Metric(
        "changed_train",
        "pixels changed, training",
        "share of pixels of poison and covers that differ from the images they were made of",
    ),
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
        "clean_accuracy_before",
        "clean accuracy before",
        "clean accuracy before the repair",
        of="test",
    ),
    Metric(
        "asr_before",
        "ASR before",
        "ASR of the victim as it was attacked",
        of="triggered",
    ),
    Metric(
        "ra_before",
        "RA before",
        "RA before the repair",
        of="triggered",
    ),
    Metric(
        "der",
        "DER",
        "defense effectiveness rating: (max(0, ASR lost) - max(0, clean accuracy lost) + 1) / 2; "
        "0.5 is no effect, 1 is a perfect repair",
        "higher",
        "",
        3,
        source="Zhu et al. 2023, arXiv:2304.11823, as in BackdoorBench",
        of="triggered",
    ),
    Metric(
        "covers_flagged",
        "covers flagged",
        "share of cover samples, stamped but rightly labelled, that are flagged; they count "
        "neither in TPR nor in FPR",
        of="covers",
    ),
    Metric(
        "certified_accuracy",
        "certified accuracy",
        "share of untouched test images that are classified as their true class without "
        "abstaining: certified against no change of the training set at least",
        "higher",
        of="test",
    ),
    Metric(
        "certified_at_poison",
        "certified at poison",
        "share of untouched test images whose true class is certified against as many changes of "
        "the training set as the attack made, covers included; where insertions and deletions are "
        "counted, a changed sample is one of each",
        "higher",
        of="test",
    ),
    Metric(
        "median_certificate",
        "median certificate",
        "the most changes of the training set against which half of the test images are certified "
        "as their true class; none where fewer than half are against no change",
        "higher",
        "",
        0,
        source="Levine and Feizi 2021 (deep partition aggregation), arXiv:2006.14768",
    ),
    Metric(
        "abstained",
        "abstained",
        "share of untouched test images on which a certified model abstains",
        "lower",
        of="test",
    ),
]
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


TAKES = 0.5
"""An attack whose ASR is lower did not take: there is no backdoor to detect or to remove."""


def took(attack: str, figures: Mapping[str, Any]) -> bool:
    """Whether an attack gave its victim a backdoor, by the ASR among a cell's figures.

    That is ``asr_before`` in a cell with a defense, ``asr`` in an attack's own. Of a clean model,
    or without either figure, nothing is said, and nothing left out.
    """
    asr = figures.get("asr_before", figures.get("asr"))
    return attack == "none" or asr is None or float(asr) >= TAKES
