"""Scores each label's samples by their projection on its activations' first singular vector."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn

from defenses.base import SampleDetector, SampleVerdict, defense, lacks
from defenses.view import DefenderView


@defense("spectral_signatures", source="Tran, Li, Madry 2018, arXiv:1811.00636")
class SpectralSignatures(SampleDetector):
    """Flag what lies further out along a label's first singular vector than clean samples do.

    Question: which samples pull their label's representations one way? Per label, penultimate
    activations are centred by their mean, and a sample's score is the square of its centred
    projection on the first right singular vector, divided by the ``clean_quantile`` of the same
    score of the defender's clean samples of that label.

    The paper removes 1.5 times the true share of poison from every label, which no defender knows.
    Here the clean split decides, twice. A label is accused when the share of its samples beyond the
    clean quantile is larger than chance would let it be in one of all labels with probability
    ``false_alarm``: n clean samples put the share beyond their k-th largest at Beta(k, n + 1 - k).
    In an accused label the samples beyond the quantile are flagged, and with them about 1 % of
    those that are not poison.

    Assumes that poison is a minority whose mean stands apart from its label's by more than the
    spread within the label. Costs one forward pass over the training set and an SVD per label. As
    built here it needs some clean samples to accuse a label: from seven, as in ``digits``, it
    cannot accuse any.
    """

    def __init__(self, clean_quantile: float = 0.99, false_alarm: float = 0.01) -> None:
        self.clean_quantile = clean_quantile
        self.false_alarm = false_alarm

    def supports(self, view: DefenderView) -> str | None:
        return lacks(view.model, nn.Linear)

    def detect(self, view: DefenderView) -> SampleVerdict:
        scores, flags = np.zeros(len(view.suspect)), np.zeros(len(view.suspect), dtype=bool)
        self.report["classes"] = []
        for label, members, points, known in view.by_label():
            if len(points) < 2 or len(known) < 2:
                continue  # no direction, or nothing to compare with
            mean, direction = signature(points)
            reference = np.sort(outlyingness(known, mean, direction))
            rank = max(1, round((1 - self.clean_quantile) * len(known)))
            bound = reference[-rank]
            scores[members] = outlyingness(points, mean, direction) / max(bound, 1e-12)
            beyond = scores[members] > 1
            expected = self._largest_share(rank, len(known), view.num_classes)
            accused = bool(beyond.mean() > expected)
            flags[members] = accused & beyond
            self.report["classes"].append(
                {
                    "class": label,
                    "samples": len(points),
                    "share_beyond": float(beyond.mean()),
                    "largest_by_chance": expected,
                    "poisoned": accused,
                }
            )
        return SampleVerdict(torch.from_numpy(scores), torch.from_numpy(flags))

    def _largest_share(self, rank: int, clean: int, num_classes: int) -> float:
        """What the share beyond the clean samples' ``rank``-th largest stays under by chance."""
        from scipy.stats import beta

        return float(beta.ppf(1 - self.false_alarm / num_classes, rank, clean + 1 - rank))


def signature(
    points: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and first right singular vector [D] of the centred points [N, D]."""
    exact = points.astype(np.float64)
    mean = exact.mean(axis=0)
    centred = exact - mean
    # The first eigenvector of the D x D covariance is that vector, without an N x N matrix.
    with threadpool_limits(1):  # with more, sums depend on which thread ends first
        _, vectors = np.linalg.eigh(centred.T @ centred)
    return mean, vectors[:, -1]


def outlyingness(
    points: NDArray[np.float32], mean: NDArray[np.float64], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Square of the centred projection of each point [N, D] on the direction: [N]."""
    with threadpool_limits(1):
        return np.square((points - mean) @ direction)
