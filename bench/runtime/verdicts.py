"""Checks of what defenses ask for and return. A breach is a PluginError, one line that names it."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor, nn

from bench.runtime.contracts import check_images
from defenses import (
    Certificate,
    ModelVerdict,
    SampleVerdict,
    Training,
)
from defenses.view import PARTS
from fixtures.blame import blamed, need

SEEN = (*PARTS, "pretrained")
"""What a defense may name in ``sees``."""

UNITS: tuple[str, ...] = get_args(get_type_hints(Certificate)["unit"])


def check_sees(plugin: str, defense: Any) -> frozenset[str]:
    """What a defense or its class says that it sees. PluginError for a word that means nothing."""
    kind = defense if isinstance(defense, type) else type(defense)
    with blamed(f"{plugin}, its sees"):
        sees = defense.sees
        words = frozenset({sees} if isinstance(sees, str) else sees)
    unknown = sorted(str(word) for word in words - set(SEEN))
    known = f"known: {', '.join(SEEN)}"
    need(not unknown, plugin, f"sees {', '.join(map(repr, unknown))}; {known}")
    need(
        not (issubclass(kind, Training) and "model" in words),
        plugin,
        "sees 'model', but is a Training: what is given a trained model is a Repair",
    )
    return words


def check_sample_verdict(plugin: str, verdict: SampleVerdict, samples: int) -> SampleVerdict:
    """A sample detector's verdict on so many samples: scores float64 [N], flags bool [N], CPU.

    Raises PluginError unless there is a finite score and a bool flag for each.
    """
    need(isinstance(verdict, SampleVerdict), plugin, f"detect returned {type(verdict).__name__}")
    with blamed(plugin):
        scores, flags = torch.as_tensor(verdict.scores), torch.as_tensor(verdict.flags)
    check_scores(plugin, "detect", scores, samples)
    need(
        flags.dtype == torch.bool and flags.shape == (samples,),
        plugin,
        f"detect's flags are {flags.dtype} {list(flags.shape)}, expected bool [{samples}]",
    )
    return SampleVerdict(scores.double().cpu(), flags.cpu())


def check_scores(plugin: str, where: str, scores: Tensor | None, samples: int) -> Tensor:
    """Scores of so many samples as float64 [N] on the CPU. PluginError unless all are finite."""
    need(isinstance(scores, Tensor), plugin, f"{where} returned {type(scores).__name__}")
    assert scores is not None
    need(
        scores.shape == (samples,),
        plugin,
        f"{where}'s scores are {list(scores.shape)}, expected [{samples}]",
    )
    need(bool(scores.isfinite().all()), plugin, f"{where} returned NaN or infinite scores")
    return scores.double().cpu()


def check_logits(
    plugin: str, whose: str, logits: Tensor | None, images: int, num_classes: int
) -> Tensor:
    """What ``whose`` network says of so many images: float32 [N, K].

    Raises PluginError unless there are finite logits of as many classes.
    """
    need(
        isinstance(logits, Tensor) and logits.shape == (images, num_classes),
        plugin,
        f"{whose} network returns {list(getattr(logits, 'shape', []))}, "
        f"expected [{images}, {num_classes}]: it must keep the number of classes",
    )
    assert logits is not None
    need(bool(logits.isfinite().all()), plugin, f"{whose} network returns NaN or infinity")
    return logits.float()


def check_threshold(plugin: str, threshold: float | None) -> float | None:
    """An input detector's threshold as a float; None where it set none. PluginError for NaN."""
    with blamed(f"{plugin}, its threshold"):
        number = None if threshold is None else float(threshold)
    need(number is None or number == number, plugin, "calibrate set a threshold that is NaN")
    return number


def check_model_verdict(
    plugin: str, verdict: ModelVerdict, num_classes: int, shape: tuple[int, int, int]
) -> ModelVerdict:
    """A model detector's verdict, with a score. ``shape``: of an image, [C, H, W].

    Raises PluginError unless there is an anomaly for each class, suspects are classes, and
    recovered triggers, if any, have the shape of an image.
    """
    need(isinstance(verdict, ModelVerdict), plugin, f"inspect returned {type(verdict).__name__}")
    with blamed(plugin):
        anomaly = torch.as_tensor(verdict.anomaly)
        suspects = [int(label) for label in verdict.suspects]
    check_scores(plugin, "inspect", anomaly, num_classes)
    need(
        all(0 <= label < num_classes for label in suspects),
        plugin,
        f"inspect accuses {suspects}, outside 0 to {num_classes - 1}",
    )
    one_of_each = torch.zeros(()).expand(num_classes, *shape)
    if verdict.masks is not None:
        check_images(plugin, "inspect's masks", verdict.masks, one_of_each[:, :1])
    if verdict.patterns is not None:
        check_images(plugin, "inspect's patterns", verdict.patterns, one_of_each)
    score = float(anomaly.max() if verdict.score is None else verdict.score)
    need(math.isfinite(score), plugin, "inspect's score is NaN or infinite")
    return verdict._replace(score=score)


def check_network(
    plugin: str, method: str, net: nn.Module, sample: Tensor, num_classes: int
) -> nn.Module:
    """The network that ``method`` returned, in evaluation mode. ``sample``: images [N, C, H, W].

    Raises PluginError unless it maps them to finite logits [N, K] of as many classes.
    """
    need(isinstance(net, nn.Module), plugin, f"{method} returned {type(net).__name__}")
    with blamed(plugin), torch.no_grad():
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        logits = net.eval()(sample.to(device))
    check_logits(plugin, f"{method}'s", logits, len(sample), num_classes)
    return net


def check_certificate(
    plugin: str, certificate: Certificate, images: int, num_classes: int
) -> Certificate:
    """What a network certifies of so many images: labels and radius int64 [N], on the CPU.

    Raises PluginError unless labels are classes, radii are -1 (abstains) or more, the unit is one
    of `UNITS` and alpha a share.
    """
    need(
        isinstance(certificate, Certificate),
        plugin,
        f"certify returned {type(certificate).__name__}, expected Certificate",
    )
    labels, radius, unit, alpha = certificate
    for name, found in (("labels", labels), ("radius", radius)):
        got = (
            f"{found.dtype} {list(found.shape)}"
            if isinstance(found, Tensor)
            else type(found).__name__
        )
        need(
            got == f"torch.int64 [{images}]",
            plugin,
            f"certify's {name} is {got}, expected torch.int64 [{images}]",
        )
    labels, radius = labels.cpu(), radius.cpu()
    need(
        bool(((labels >= 0) & (labels < num_classes)).all()),
        plugin,
        f"certify's labels lie outside 0 to {num_classes - 1}",
    )
    need(bool((radius >= -1).all()), plugin, "certify's radius is under -1, which is to abstain")
    need(unit in UNITS, plugin, f"certify's unit is {unit!r}, expected one of {', '.join(UNITS)}")
    need(
        isinstance(alpha, int | float) and 0 <= alpha < 1,
        plugin,
        f"certify's alpha is {alpha!r}, expected a share from 0 to less than 1",
    )
    return Certificate(labels, radius, unit, float(alpha))
