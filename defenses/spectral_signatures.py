"""Scores each label's samples by their projection on its activations' first singular vector."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from defenses.base import SampleDetector, SampleVerdict, defense
from defenses.view import DefenderView


@defense("spectral_signatures", source="Tran, Li, Madry 2018, arXiv:1811.00636")
class SpectralSignatures(SampleDetector):
    """Flag what lies further out along a label's first singular vector than clean samples do.

    Question: which samples pull their label's representations one way? Per label, penultimate
    activations are centred by their mean, and a sample's score is the square of its centred
    projection on the first right singular vector, divided by the ``clean_quantile`` of the same
    score of the defender's clean samples of that label.

    The paper removes 1.5 times the true share of poison from every label, which no defender knows
    (`spectral_signatures_epsilon`). Here the clean split decides, twice. A label is accused when
    the share of its samples beyond the clean quantile is larger than chance would let it be in one
    of all labels with probability ``false_alarm``: n clean samples put the share beyond their k-th
    largest at Beta(k, n + 1 - k). In an accused label the samples beyond the quantile are flagged,
    and with them about 1 % of those that are not poison.

    Assumes that poison is a minority whose mean stands apart from its label's by more than the
    spread within the label. Costs one forward pass over the training set and an SVD per label. As
    built here it needs some clean samples to accuse a label: from seven, as in ``digits``, it
    cannot accuse any.
    """

    grid = MappingProxyType({"clean_quantile": (0.95, 0.99), "false_alarm": (0.001, 0.01, 0.1)})

    def __init__(self, clean_quantile: float = 0.99, false_alarm: float = 0.01) -> None:
        self.clean_quantile = clean_quantile
        self.false_alarm = false_alarm

    def supports(self, view: DefenderView) -> str | None:
        return view.anatomy().lacks.get("features")

    def detect(self, view: DefenderView) -> SampleVerdict:
        scores, flags = np.zeros(len(view.suspect)), np.zeros(len(view.suspect), dtype=bool)
        self.report["classes"] = []
        for found in view.by_label():
            label, points, known = found.label, found.points, found.known
            if len(points) < 2 or len(known) < 2:
                continue  # no direction, or nothing to compare with
            mean, direction = signature(points)
            reference = np.sort(outlyingness(known, mean, direction))
            rank = max(1, round((1 - self.clean_quantile) * len(known)))
            bound = reference[-rank]
            outlying = found.scored(partial(outlyingness, mean=mean, direction=direction))
            scores[found.members] = outlying / max(bound, 1e-12)
            beyond = scores[found.members] > 1
            expected = self._largest_share(rank, len(known), view.num_classes)
            accused = bool(beyond.mean() > expected)
            flags[found.members] = accused & beyond
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


@defense("spectral_signatures_epsilon", source="Tran, Li, Madry 2018, arXiv:1811.00636")
class SpectralSignaturesEpsilon(SampleDetector):
    """Flag the 1.5 epsilon of every label that lie furthest out along its first singular vector.

    Question: as `spectral_signatures`, by the paper's own rule. ``epsilon``: the share of a label's
    samples that are poison at most, which the defender is taken to know; 1.5 times as many are
    flagged of every label, poisoned or not.

    Assumes what the paper assumes: that epsilon is known. Of the labels without poison all that it
    flags is clean, so its precision falls with their number. Costs one forward pass over the
    training set and an SVD per label; needs no clean image.
    """

    sees = frozenset({"model", "suspect"})
    grid = MappingProxyType({"epsilon": (0.05, 0.1, 0.2)})

    def __init__(self, epsilon: float = 0.1) -> None:
        if not 0.0 < epsilon <= 0.5:
            raise ValueError(f"epsilon is a share over 0 and up to a half, got {epsilon}")
        self.epsilon = epsilon

    def supports(self, view: DefenderView) -> str | None:
        return view.anatomy().lacks.get("features")

    def detect(self, view: DefenderView) -> SampleVerdict:
        scores, flags = np.zeros(len(view.suspect)), np.zeros(len(view.suspect), dtype=bool)
        for found in view.by_label():
            if len(found.points) < 2:
                continue  # no direction
            mean, direction = signature(found.points)
            outlying = found.scored(partial(outlyingness, mean=mean, direction=direction))
            bound = np.quantile(outlying, 1 - 1.5 * self.epsilon)
            scores[found.members] = outlying / max(float(bound), 1e-12)
            flags[found.members] = scores[found.members] > 1
        return SampleVerdict(torch.from_numpy(scores), torch.from_numpy(flags))


def signature(
    points: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and first right singular vector [D] of the centred points [N, D]."""
    centred = points.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    # An eigenvector of the smaller of the D x D covariance and the N x N matrix of inner products.
    with threadpool_limits(1):  # with more, sums depend on which thread ends first
        if points.shape[1] <= len(points):
            return mean, np.linalg.eigh(centred.T @ centred)[1][:, -1]
        direction = centred.T @ np.linalg.eigh(centred @ centred.T)[1][:, -1]
    return mean, direction / max(float(np.linalg.norm(direction)), 1e-12)


def outlyingness(
    points: NDArray[np.float32], mean: NDArray[np.float64], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Square of the centred projection of each point [N, D] on the direction: [N]."""
    with threadpool_limits(1):
        return np.square((points - mean) @ direction)
