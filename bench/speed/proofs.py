"""Trainings with a proof: what they certify of MNIST, how long it takes, and each answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from bench.judge.certified import asked, figures
from bench.speed.clock import table
from defenses import DEFENSES, Certified, DefenderView
from fixtures import datasets
from fixtures.images import ImageSet

AT = (100, 200, 500)
"""Changes at which certified accuracy is told: those of the papers' tables; of 100 modifications
each is two insertions or deletions."""

CONTESTANTS: dict[str, dict[str, Any]] = {
    "dpa": {"partitions": 1200},
    "dpa+partitions=3000": {"partitions": 3000},
    "run_off_election": {"partitions": 3000},
    "finite_aggregation": {"partitions": 300, "spread": 8},
    "bagging": {"voters": 1000, "bag": 20},
    "dpa+base=network": {"partitions": 250, "base": "network"},
}
"""Each once: the defense, before a plus sign where it has two rows, and its parameters."""


def measure(data: Path | None, _repeats: int) -> list[str]:
    """Once: what is drawn is the same in every round."""
    mnist = datasets.load("mnist", data)
    trained_on = together(mnist.train, mnist.clean)
    rows = [
        _row(name.partition("+")[0], params, mnist, trained_on)
        for name, params in CONTESTANTS.items()
    ]
    return [
        f"{len(trained_on):,} training images, untouched: all but those that choices were made "
        f"on, the defender's too. {len(mnist.test):,} test images; one that is answered wrongly is "
        "certified against nothing. A modified image counts two insertions or deletions. "
        "Published: DPA 448 in the median of 1,200 networks and 509 of 3,000 (Levine and Feizi "
        "2021), bagging 91.1 % at 100 modifications (Jia et al. 2021).",
        "",
        *table(rows),
    ]


def together(*parts: ImageSet) -> ImageSet:
    """One set, its images one after another."""
    pixels = [part.bytes(torch.arange(len(part))) for part in parts]
    return ImageSet(torch.cat(pixels), torch.cat([part.labels for part in parts]))


def _row(
    name: str, params: dict[str, Any], mnist: datasets.Dataset, trained_on: ImageSet
) -> dict[str, str]:
    view = DefenderView(
        model=None,
        clean=None,
        suspect=trained_on,
        shape=trained_on.shape,
        num_classes=len(mnist.classes),
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
    )
    defense = DEFENSES.create(name, **params)
    assert isinstance(defense, Certified)
    began = time.perf_counter()
    certify: Any = defense.train(view).certify
    trained = time.perf_counter()
    with torch.no_grad():
        certificate = asked(name, certify, mnist.test)
    answered = time.perf_counter()
    right = certificate.labels == mnist.test.labels
    held = torch.where(right, certificate.radius, -1)
    found = figures(held, 0)
    return {
        "defense": ", ".join([name, *(f"{key} {value}" for key, value in params.items())]),
        "unit": certificate.unit,
        "right (%)": f"{100 * right.double().mean():.1f}",
        "median certificate": f"{found['median_certificate']:.0f}"
        if "median_certificate" in found
        else "none",
        **{f"certified at {r} (%)": f"{100 * (held >= r).double().mean():.1f}" for r in AT},
        "training": f"{trained - began:.0f} s",
        "an answer": f"{1e3 * (answered - trained) / len(mnist.test):.2f} ms",
    }
