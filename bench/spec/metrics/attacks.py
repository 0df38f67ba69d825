"""Of attacks, and of any network: accuracy, ASR, what is left of a trigger, how visible it is."""

from __future__ import annotations

from bench.spec.metrics.metric import Metric

ATTACKS = [
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
        of="uncounted",
    ),
    Metric(
        "leak",
        "leak",
        "share of triggered test images of classes that the trigger is not to work on that are "
        "classified as the target",
        source="Tang et al. 2021 (TaCT), arXiv:1908.00686",
        of="uncounted",
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
        "survives_jpeg",
        "ASR after JPEG",
        "ASR of the triggered images after they were stored as JPEG of quality 75 (colour with "
        "chroma of half the resolution, as is usual)",
        "lower",
        of="triggered",
    ),
    Metric(
        "survives_resize",
        "ASR after resizing",
        "ASR of the triggered images after they were resized to three quarters of each side and "
        "back, bilinearly with antialiasing",
        "lower",
        of="triggered",
    ),
    Metric(
        "survives_crop",
        "ASR after a crop",
        "ASR of the triggered images after a window of seven eighths of each side, at a place "
        "drawn for each image, was resized to the whole",
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
        of="uncounted",
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
        of="uncounted",
    ),
]
