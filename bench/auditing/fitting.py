"""Whether a network and images belong together, before anything is said of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bench.auditing.lines import one_line
from bench.auditing.preprocess import KNOWN, Preprocess, prepared
from fixtures.errors import BenchError
from fixtures.images import ImageSet
from fixtures.models.timm import Normalised
from fixtures.training import predict

LEAST = 0.5
"""Accuracy, as a share of the way from a guess to all right, under which a network and images do
not belong together."""

ORDER = 0.8
"""Accuracy under the best order of classes from which another order is what is wrong."""

SHOWN = 4
"""Classes out of order that an error names."""


@dataclass(frozen=True, eq=False)
class Fit:
    """``net``: images in [0, 1] -> logits. ``accuracy``: on the clean images, a share.
    ``guessed``: whether ``how`` was chosen by accuracy among those that are tried."""

    net: Normalised
    how: Preprocess
    accuracy: float
    guessed: bool


def fitted(net: nn.Module, data: ImageSet, classes: Sequence[str], how: Preprocess | None) -> Fit:
    """The network behind the preprocessing that it wants.

    ``how``: as it was given; None tries those that are common and takes the most accurate. Raises
    BenchError, which says what is wrong.
    """
    tried = [one for one in ([how] if how else KNOWN) if one.fits(data.shape[0])]
    if not tried:
        raise BenchError(
            f"--preprocess: mean and std are for another number of channels than the images' "
            f"{data.shape[0]}"
        )
    found, failed = [], None
    for one in tried:
        try:
            answers = answered(prepared(net, one), data, len(classes)).argmax(1)
        except BenchError as error:  # a network may refuse images that are not as it wants them
            failed = failed or error
            continue
        found.append((float((answers == data.labels).double().mean()), one, answers))
    if not found:
        assert failed is not None
        raise failed
    accuracy, best, _ = max(found, key=lambda each: each[0])
    guess = 1 / len(classes)
    if accuracy < guess + LEAST * (1 - guess):
        others = [_reordered(answers, data.labels, classes) for _, _, answers in found]
        names = "; ".join(one.name for one in tried)
        raise BenchError(_misfit(accuracy, max(others), names))
    return Fit(prepared(net, best), best, accuracy, how is None)


def answered(net: nn.Module, data: ImageSet, classes: int) -> Tensor:
    """Logits float32 [N, K] of all images. Raises BenchError where the network gives none."""
    try:
        with torch.no_grad():
            out = net(data.batch(torch.arange(min(2, len(data)))))
    except Exception as error:  # whatever a stranger's network does
        raise BenchError(
            f"the model does not take images {list(data.shape)}: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    if isinstance(out, dict):
        raise BenchError(f"the model answers a dict of {', '.join(map(str, out))}, no logits")
    if not isinstance(out, Tensor):
        raise BenchError(f"the model answers a {type(out).__name__}, no logits")
    if out.dim() != 2 or out.shape[1] != classes:
        raise BenchError(
            f"the model answers {list(out.shape[1:])} for each image; the data has {classes} "
            f"classes, so logits [{classes}] are needed"
        )
    try:
        logits = predict(net, data)
    except Exception as error:  # of one that takes batches of one size only, say
        raise BenchError(
            f"the model takes {min(2, len(data))} images at a time and fails with more: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    wrong = int((~logits.isfinite().all(1)).sum())
    if wrong:
        raise BenchError(f"the model answers NaN or infinity for {wrong} of {len(data)} images")
    return logits


def _reordered(answers: Tensor, labels: Tensor, classes: Sequence[str]) -> tuple[float, str]:
    """The accuracy under the best order of classes, and which of them stand elsewhere then."""
    pairs = torch.zeros(len(classes), len(classes))
    pairs.index_put_((labels, answers), torch.ones(len(labels)), accumulate=True)
    rows, columns = linear_sum_assignment(-pairs.numpy())
    moved = [
        f"{classes[row]} is output {column}"
        for row, column in zip(rows, columns, strict=True)
        if row != column
    ]
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return float(pairs[rows, columns].sum()) / len(labels), ", ".join(moved[:SHOWN]) + more


def _misfit(accuracy: float, other: tuple[float, str], tried: str) -> str:
    """What is wrong: another order of classes, or anything else."""
    said = f"the model is right on {100 * accuracy:.1f} % of the clean images"
    ordered, moved = other
    if ordered >= ORDER:
        return (
            f"{said}, and on {100 * ordered:.1f} % if its classes stand in another order: {moved}; "
            "give --classes in the model's order"
        )
    return (
        f"{said}, tried {tried}: data or preprocessing are not the model's; give --preprocess, or "
        "images that it was made for"
    )
