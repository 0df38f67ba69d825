"""Splits each label's activations in two clusters, and asks whether one of them is poison."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from defenses.base import SampleDetector, SampleVerdict, defense
from defenses.view import DefenderView

SILHOUETTE_SAMPLE = 2000
"""Silhouettes take quadratic time; the mean over this many samples is exact to about 0.01."""


@defense("activation_clustering", source="Chen et al. 2018, arXiv:1811.03728")
class ActivationClustering(SampleDetector):
    """Flag the smaller of two activation clusters where the clean split knows no such cluster.

    Question: which training samples carry a label because of a trigger? Per label, penultimate
    activations go through PCA and KMeans with two clusters. A label is poisoned when the smaller
    cluster holds less than ``max_share`` of it *and* the clusters stand further apart in the
    suspect data (silhouette) than the same two clusters do in the defender's clean samples of that
    label: a natural subclass, say a seven with a bar, splits both alike, poison splits only the
    suspect data. "Further" is by ``margin`` plus ``uncertainty`` / sqrt(n), since the silhouette of
    n clean samples varies by about that much. In a poisoned label those samples are flagged that
    lie nearer to the smaller cluster than ``clean_quantile`` of the clean samples do, so about 1 %
    of the samples that are not poison are flagged with them.

    ``uncertainty`` was chosen on ``digits``, where there are only seven clean samples a label. That
    the bound falls with n, and the quantile, came later: a fixed bound that suits seven samples
    missed the blur on MNIST, and flagging from half the distance between the centres missed many
    of its samples.

    Deviates from the paper: PCA rather than ICA, the penultimate layer, and the clean split as
    reference where the paper compares with fixed expectations.
    Assumes that poison is the minority of its label, as the paper does, and leaves a cluster: no
    label is accused whose smaller cluster holds ``max_share`` of it or more. Costs one forward pass
    over the training set.
    """

    grid = MappingProxyType({"max_share": (1 / 4, 1 / 3, 1 / 2), "uncertainty": (0.3, 0.6, 1.2)})

    def __init__(
        self,
        dimensions: int = 10,
        max_share: float = 1 / 3,
        margin: float = 0.05,
        uncertainty: float = 0.6,
        clean_quantile: float = 0.99,
    ) -> None:
        self.dimensions = dimensions
        self.max_share = max_share
        self.margin = margin
        self.uncertainty = uncertainty
        self.clean_quantile = clean_quantile

    def supports(self, view: DefenderView) -> str | None:
        return view.anatomy().lacks.get("features")

    def detect(self, view: DefenderView) -> SampleVerdict:
        scores, flags = np.zeros(len(view.suspect)), np.zeros(len(view.suspect), dtype=bool)
        seed = view.seed()
        self.report["classes"] = []
        for found in view.by_label():
            label, points, known = found.label, found.points, found.known
            if len(points) <= self.dimensions or len(known) < 2:
                continue  # too few samples to cluster, or nothing to compare with
            split = Split(points, self.dimensions, seed)
            silhouette = split.silhouette(points)
            reference = split.silhouette(known)
            evidence = silhouette - reference - self.uncertainty / len(known) ** 0.5
            poisoned = bool(split.share < self.max_share and evidence > self.margin)
            affinity = found.scored(split.affinity)
            innocent = np.quantile(split.affinity(known), self.clean_quantile)
            flags[found.members] = poisoned & (affinity > max(0.5, float(innocent)))
            scores[found.members] = max(silhouette - reference, 0.0) * affinity
            self.report["classes"].append(
                {
                    "class": label,
                    "samples": len(points),
                    "smaller_share": split.share,
                    "silhouette": silhouette,
                    "clean_silhouette": reference,
                    "poisoned": poisoned,
                }
            )
        return SampleVerdict(torch.from_numpy(scores), torch.from_numpy(flags))


class Split:
    """Two clusters of one label's activations [N, D], found by KMeans in their first components."""

    def __init__(self, points: NDArray[np.float32], dimensions: int, seed: int) -> None:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA

        self._seed = seed
        with threadpool_limits(1):  # with more, sums depend on which thread ends first
            self._pca = PCA(min(dimensions, points.shape[1]), random_state=seed).fit(points)
            self._kmeans = KMeans(2, n_init=4, random_state=seed).fit(self._pca.transform(points))
        sizes = np.bincount(self._kmeans.labels_, minlength=2)
        self._smaller = int(sizes.argmin())
        self.share = float(sizes.min() / sizes.sum())

    def in_smaller(self, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the points fall to the smaller cluster: bool [N]."""
        return self.affinity(points) > 0.5

    def affinity(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """From 0 at the larger cluster's centre to 1 at the smaller one's, 0.5 halfway: [N]."""
        distance = self._kmeans.transform(self._pca.transform(points))
        larger = distance[:, 1 - self._smaller]
        return np.asarray(larger / distance.sum(axis=1).clip(min=1e-12))

    def silhouette(self, points: NDArray[np.float32]) -> float:
        """Mean silhouette of points under this split; 0 where they all lie in one cluster."""
        from sklearn.metrics import silhouette_score

        order = np.random.default_rng(self._seed).permutation(len(points))
        some = points[order[:SILHOUETTE_SAMPLE]]
        side = self.in_smaller(some)
        if not 0 < side.sum() < len(side) or len(side) < 3:
            return 0.0
        return float(silhouette_score(self._pca.transform(some), side))
