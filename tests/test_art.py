"""An independent check: the Adversarial Robustness Toolbox on identical features.

Needs the extra ``speed``: ``pip install -e '.[dev,speed]'``.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from attacks import POISON
from bench import Cell
from bench.victims.provide import victim
from defenses.activation_clustering import Split
from defenses.spectral_signatures import outlyingness, signature
from fixtures.training import activations

# Skipped test by test: a module that is skipped as a whole holds none that could be collected.
pytestmark = pytest.mark.skipif(
    find_spec("art") is None, reason="the extra 'speed' is not installed"
)


@pytest.fixture(scope="module")
def features(workspace):
    """The target class's activations in a victim, and which of them are poison."""
    attacked = victim(
        Cell("digits", attack="pixel", attack_params={"poison_rate": 0.03}), workspace
    )
    suspect = attacked.suspect
    members = suspect.labels == attacked.attack.target
    points = activations(attacked.model, suspect.take(members)).numpy()
    return points, (attacked.roles == POISON)[members].numpy()


def arts_clusters(points):
    """Of ten runs the one with the least inertia: ART starts KMeans once, unseeded."""
    from art.defences.detector.poison.activation_defence import cluster_activations

    def run():
        clusters, reduced = cluster_activations([points], nb_clusters=2, nb_dims=10, reduce="PCA")
        return clusters[0], reduced[0]

    def inertia(found):
        clusters, reduced = found
        parts = [reduced[clusters == side] for side in (0, 1)]
        return sum(np.square(part - part.mean(axis=0)).sum() for part in parts)

    return min((run() for _ in range(10)), key=inertia)


def arts_scores(points):
    from art.defences.detector.poison.spectral_signature_defense import SpectralSignatureDefense

    return SpectralSignatureDefense.spectral_signature_scores(points).ravel()


def our_scores(points):
    return outlyingness(points, *signature(points))


def test_activation_clustering_finds_arts_clusters(features):
    points, poisoned = features
    ours = Split(points, 10, seed=0).in_smaller(points)
    assert adjusted_rand_score(ours, arts_clusters(points)[0]) >= 0.999
    assert adjusted_rand_score(ours, poisoned) > 0.8


def test_spectral_signatures_rank_as_art_does_once_its_features_are_centred(features):
    points, _ = features
    centred = points - points.mean(axis=0)
    assert spearmanr(our_scores(points), arts_scores(centred)).statistic >= 0.999


def test_centring_moves_none_of_our_scores(features):
    points, _ = features
    assert np.allclose(our_scores(points), our_scores(points - points.mean(axis=0)), rtol=1e-3)


def test_arts_uncentred_projection_ranks_poison_last_where_it_lies_nearer_the_origin():
    """90 clean points around 10, 10 poisons around 5: ART projects them without their mean."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.1, (100, 5)).astype(np.float32)
    points[:, 0] += 10
    points[90:, 0] -= 5
    assert set(np.argsort(our_scores(points))[-10:]) == set(range(90, 100))
    assert set(np.argsort(arts_scores(points))[:10]) == set(range(90, 100))


def test_arts_silhouette_analysis_accuses_the_clean_with_the_poison():
    """Twenty points far from eighty: a small cohesive cluster, by its own rule the poison.

    ART calls the class suspicious, then neither cluster poison, and no sample of either clean: the
    verdict on the eighty is memory that nobody wrote to.
    """
    from art.defences.detector.poison.clustering_analyzer import ClusteringAnalyzer

    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.1, (100, 2)).astype(np.float32)
    points[80:] += 5
    clusters, reduced = (np.arange(100) >= 80).astype(int), points
    called_clean, summary, report = ClusteringAnalyzer().analyze_by_silhouette_score(
        [clusters], [reduced]
    )
    assert report["class_0"]["suspicious"]
    assert not summary.any()
    assert not (called_clean[0] == 1).any()
    ours = Split(points, 2, seed=0)
    assert ours.in_smaller(points).tolist() == (clusters == 1).tolist()
    assert ours.share == pytest.approx(0.2)
    assert ours.silhouette(points) > 0.9
