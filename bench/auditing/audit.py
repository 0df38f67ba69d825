"""``bench.audit`` and ``bench.repair``: what the command line calls, for a network in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.analysis import odds
from bench.auditing.examine import Given, Tell, examine
from bench.auditing.fitting import Fit, fitted
from bench.auditing.graphs import copied
from bench.auditing.mending import Mended, mended
from bench.auditing.outcome import Audit
from bench.auditing.preprocess import Preprocess
from bench.runtime.devices import device_named
from fixtures.errors import BenchError
from fixtures.images import ImageSet

FEWEST = 2
"""Clean images of each class that an audit needs."""


def audit(
    model: nn.Module,
    images: Tensor | ImageSet,
    labels: Tensor | None = None,
    *,
    classes: Sequence[str] = (),
    suspect: ImageSet | None = None,
    inputs: ImageSet | None = None,
    preprocess: Preprocess | None = None,
    detectors: Sequence[str] = (),
    device: str = "auto",
    limit: float | None = None,
    known: Path | None = None,
    name: str = "the model",
    form: str = "live module",
    kept: Path | None = None,
    tell: Tell = lambda _: None,
) -> Audit:
    """Every detector that applies to a network, and what the benchmark knows of their errors.

    ``model``: images -> logits [N, K]; what is examined is a copy of it, in evaluation mode.
    ``images``, ``labels``: clean ones, uint8 or float32 in [0, 1] [N, C, H, W], under
    their right labels int64 [N]; or an `ImageSet`, which has both. ``classes``: names, by default
    the labels. ``suspect``: the training set; ``inputs``: traffic. ``preprocess``: what the model
    wants; by default what makes it most accurate among what is common. ``detectors``: by name, by
    default every one that applies. ``device``: that computes, ``auto`` a GPU if there is any.
    ``limit``: seconds that one detector may take, on Unix, in the main thread. ``known``: a file of
    odds, by default the one that the benchmark's own zoo made. ``kept``: a folder in which an audit
    that is interrupted goes on. Raises BenchError, one line, where model and images do not fit, or
    are too few.
    """
    fit, given = _fitted(model, images, labels, classes, preprocess, device, suspect, inputs)
    given = replace(given, only=tuple(detectors), limit=limit)
    given.net.requires_grad_(False)
    zoo = odds.nearest(given.clean.shape, odds.zoos(known))
    findings = examine(given, kept, tell)
    scores = {one.detector: one.score for one in findings if one.flavour == "model"}
    usual = {detector: one.usual for detector, one in zoo.detectors.items()}
    return Audit(
        model=name,
        form=form,
        how=fit.how,
        guessed=fit.guessed,
        accuracy=fit.accuracy,
        classes=given.classes,
        findings=findings,
        judgement=odds.judged(scores, usual, len(given.classes) / zoo.classes),
        zoo=zoo,
    )


def repair(
    model: nn.Module,
    images: Tensor | ImageSet,
    labels: Tensor | None = None,
    *,
    defense: str,
    classes: Sequence[str] = (),
    suspect: ImageSet | None = None,
    preprocess: Preprocess | None = None,
    device: str = "auto",
    **params: Any,
) -> Mended:
    """A repaired copy of a network, and its accuracy before and after.

    ``defense``: a repair by name, with its ``params``. The rest: as `audit` takes it. How much of a
    backdoor is left cannot be known without its trigger. Raises BenchError, one line.
    """
    fit, given = _fitted(model, images, labels, classes, preprocess, device, suspect)
    found = mended(defense, given, params)
    net = found.net.net if isinstance(found.net, type(fit.net)) else found.net
    return Mended(net.cpu(), found.before, found.after)


def _fitted(
    model: nn.Module,
    images: Tensor | ImageSet,
    labels: Tensor | None,
    classes: Sequence[str],
    how: Preprocess | None,
    device: str,
    suspect: ImageSet | None,
    inputs: ImageSet | None = None,
) -> tuple[Fit, Given]:
    """A copy of the network behind its preprocessing, and all that it is examined with."""
    if not isinstance(images, ImageSet):
        if labels is None:
            raise BenchError("an audit needs the labels of its images")
        images = ImageSet(images, labels)
    classes = tuple(classes) or tuple(map(str, range(int(images.labels.max()) + 1)))
    counts = torch.bincount(images.labels, minlength=len(classes))
    few = [classes[label] for label in (counts < FEWEST).nonzero().flatten().tolist()]
    if few:
        raise BenchError(
            f"{len(few)} of {len(classes)} classes have fewer than {FEWEST} clean images: "
            f"{', '.join(few[:3])}"
        )
    where = device_named(device)
    fit = fitted(copied(model).cpu().eval(), images, classes, how)
    return fit, Given(fit.net.to(where), images, classes, suspect, inputs, device=where)
