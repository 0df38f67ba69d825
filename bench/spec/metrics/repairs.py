"""Of repairs and trainings, with a proof and without."""

from __future__ import annotations

from bench.spec.metrics.metric import Metric

REPAIRS = [
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
        "reactivation",
        "re-activation",
        "ASR after the attacker adjusted the triggered images to the repaired network by one "
        "common change (of each trigger) of at most 8/255 in L-infinity, found in 100 steps on "
        "500 unpoisoned training images, less what the same search reaches on the model trained "
        "without poison; 0 means that no more is left than in that one, below 0 less; not "
        "measured where no gradient flows through the network",
        "lower",
        source="Zhu et al. 2024, arXiv:2405.16134",
    ),
    Metric(
        "company",
        "answers that follow company",
        "of a network that answers from its defender's process (a wrapper, an ensemble): share of "
        "200 test inputs, clean and triggered mixed, that are classified otherwise when nothing "
        "else is in the batch",
        "lower",
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
