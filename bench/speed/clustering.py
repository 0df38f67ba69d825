"""Activation clustering end to end, where its time goes, and whether ART clusters alike."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from bench import Cell
from bench.runtime.workspace import Workspace
from bench.speed.clock import Times, interleaved, stopwatch, table
from bench.victims.provide import Victim, victim
from defenses import DEFENSES, SampleDetector
from defenses import activation_clustering as ours
from defenses import view as views
from fixtures.training import activations

STARTS = 10


def measure(data: Path | None, repeats: int) -> list[str]:
    """A victim as the suite trains it; the defense as the suite runs it."""
    attacked = victim(Cell("mnist", attack="pixel"), Workspace(data=data))
    parts: list[dict[str, float]] = []

    def detect(seed: int) -> None:
        view = attacked.view(seed, ours.ActivationClustering.sees)
        detector = DEFENSES.create("activation_clustering")
        assert isinstance(detector, SampleDetector)
        stages = {
            "activations": (views, "activations"),
            "PCA, fit": (PCA, "fit"),
            "KMeans": (KMeans, "fit"),
            "silhouettes": (sklearn.metrics, "silhouette_score"),
        }
        with stopwatch(stages) as spent:
            detector.detect(view)
        parts.append(spent)

    detect(0)  # the first pass pays for what is loaded late
    parts.clear()
    times = interleaved({"all": detect}, repeats)[0]["all"]
    stages = {name: Times(tuple(part[name] for part in parts)) for name in parts[0]}
    stages["the rest"] = Times(
        tuple(t - sum(part.values()) for t, part in zip(times.seconds, parts, strict=True))
    )
    rows = [
        {"stage": name, "time": str(took), "share": f"{took.median / times.median:.0%}"}
        for name, took in {**stages, "end to end": times}.items()
    ]
    return [
        f"MNIST, SimpleCNN, pixel at 3 %: {len(attacked.suspect)} suspect and "
        f"{len(attacked.clean(None))} clean images, ten classes.",
        "",
        *table(rows),
        "",
        *_agreement(attacked, repeats),
    ]


def _agreement(attacked: Victim, repeats: int) -> list[str]:
    """Both cluster the same activations, class by class."""
    if find_spec("art") is None:
        return ["Without ART (`pip install -e '.[speed]'`) its clusters are not compared."]
    suspect = attacked.suspect
    points = activations(attacked.model, suspect).numpy()
    classes = [points[(suspect.labels == k).numpy()] for k in range(10)]
    times, found = interleaved(
        {"ours": lambda _: _sides(classes), "ART": lambda _: _arts(classes)}, repeats
    )
    once = _agreement_by_class(found["ours"][0], [clusters for clusters, _ in found["ART"][0]])
    best = _agreement_by_class(found["ours"][0], _best_of(STARTS, classes))
    return [
        "PCA and KMeans of the same activations: ours "
        f"{times['ours']}, ART's `cluster_activations` {times['ART']}. KMeans ends in a local "
        "optimum that depends on its start: ART starts once, unseeded, ours keeps the best of "
        f"four. So ours is compared with one run of ART and with its best of {STARTS} by inertia.",
        "",
        *table(
            [
                {"adjusted Rand index": name, **{f"class {k}": f"{v:.4f}" for k, v in enumerate(r)}}
                for name, r in (("one run of ART", once), (f"ART's best of {STARTS}", best))
            ]
        ),
    ]


def _agreement_by_class(
    ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]
) -> list[float]:
    return [float(adjusted_rand_score(a, b)) for a, b in zip(ours, theirs, strict=True)]


def _best_of(starts: int, classes: list[NDArray[np.float32]]) -> list[NDArray[np.int64]]:
    runs = [_arts(classes) for _ in range(starts)]
    return [min(some, key=lambda one: _inertia(*one))[0] for some in zip(*runs, strict=True)]


def _inertia(clusters: NDArray[np.int64], points: NDArray[np.float32]) -> float:
    parts = [points[clusters == k].astype(np.float64) for k in (0, 1)]
    return float(sum(((part - part.mean(0)) ** 2).sum() for part in parts))


def _sides(classes: list[NDArray[np.float32]]) -> list[NDArray[np.bool_]]:
    return [ours.Split(points, 10, 0).in_smaller(points) for points in classes]


def _arts(
    classes: list[NDArray[np.float32]],
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Clusters, and the reduced activations they were found in, by class."""
    from art.defences.detector.poison.activation_defence import cluster_activations

    clusters, reduced = cluster_activations(classes, nb_clusters=2, nb_dims=10, reduce="PCA")
    return list(zip(clusters, reduced, strict=True))
