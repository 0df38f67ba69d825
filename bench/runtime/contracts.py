"""Checks of what plugins return. A breach is a PluginError, one line that names the plugin."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks import Attack, PoisonedSet
from defenses import DefenderView, Defense, ModelVerdict, SampleVerdict
from fixtures.datasets import ImageSet
from fixtures.errors import BenchError, PluginError


@contextmanager
def blamed(plugin: str) -> Iterator[None]:
    """What a plugin raises in the block becomes a PluginError that names it and the line of code.

    A BenchError keeps its class, and its message gets the plugin's name in front.
    """
    try:
        yield
    except BenchError as error:
        raise type(error)(f"{plugin}: {error}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        reason = str(error).strip().partition("\n")[0]
        raise PluginError(f"{plugin}: raised {type(error).__name__}: {reason} ({where})") from error


def need(condition: bool, plugin: str, reason: str) -> None:
    """Raise PluginError("plugin: reason") unless the condition holds."""
    if not condition:
        raise PluginError(f"{plugin}: {reason}")


@torch.no_grad()
def stamp(plugin: str, attack: Attack, images: Tensor) -> Tensor:
    """``attack(images)``, checked: the same shape and dtype, finite, in [0, 1], input unchanged.

    ``images``: float32 [N, C, H, W] in [0, 1], on the attack's device. Raises PluginError.
    """
    given = images.clone()  # the attack gets a copy: if it writes into it, the data set is not hurt
    with blamed(plugin):
        stamped: Tensor = attack(given)
    need(isinstance(stamped, Tensor), plugin, f"forward returned {type(stamped).__name__}")
    check_images(plugin, "forward", stamped, images)
    need(torch.equal(given, images), plugin, "forward changed its input in place")
    return stamped.detach()


def check_images(plugin: str, where: str, images: Tensor, like: Tensor) -> None:
    """Raise PluginError unless images have the shape and dtype of ``like``, finite, in [0, 1]."""
    need(
        images.shape == like.shape and images.dtype == like.dtype,
        plugin,
        f"{where} returned {images.dtype} {list(images.shape)}, "
        f"expected {like.dtype} {list(like.shape)}",
    )
    if images.numel() == 0:
        return
    need(bool(images.isfinite().all()), plugin, f"{where} returned NaN or infinite pixels")
    low, high = float(images.min()), float(images.max())
    need(
        low >= 0.0 and high <= 1.0,
        plugin,
        f"{where} returned pixels from {low:g} to {high:g}, outside [0, 1]",
    )


def check_poisoned(plugin: str, attack: Attack, clean: ImageSet, got: PoisonedSet) -> PoisonedSet:
    """What ``attack.poison`` returned for ``clean``, as it is.

    Raises PluginError unless there are as many poisoned samples as the rate asks for, and all
    others are unchanged.
    """
    need(isinstance(got, PoisonedSet), plugin, f"poison returned {type(got).__name__}")
    check_images(plugin, "poison", got.images, clean.images)
    mask = got.poisoned
    need(isinstance(mask, Tensor), plugin, f"poison's mask is {type(mask).__name__}")
    need(
        mask.dtype == torch.bool and mask.shape == clean.labels.shape,
        plugin,
        f"poison's mask is {mask.dtype} {list(mask.shape)}, expected bool [{clean.size}]",
    )
    need(
        got.labels.shape == clean.labels.shape and got.labels.dtype == clean.labels.dtype,
        plugin,
        "poison changed the labels' shape or dtype",
    )
    wanted = round(attack.poison_rate * clean.size)
    need(
        int(mask.sum()) == wanted,
        plugin,
        f"poisoned {int(mask.sum())} samples, asked for {wanted} "
        f"({attack.poison_rate:g} of {clean.size})",
    )
    touched = (got.images != clean.images).flatten(1).any(1) | (got.labels != clean.labels)
    need(not bool((touched & ~mask).any()), plugin, "changed samples outside its own mask")
    return got


def unsupported(plugin: str, defense: Defense, view: DefenderView) -> str | None:
    """Why the defense does not apply to what the view shows, one clause; None where it does."""
    with blamed(plugin):
        reason = defense.supports(view)
    need(
        reason is None or (isinstance(reason, str) and bool(reason.strip())),
        plugin,
        f"supports returned {reason!r}, expected None or a reason",
    )
    return reason


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


def check_scores(plugin: str, where: str, scores: Tensor, samples: int) -> Tensor:
    """Scores of so many samples as float64 [N] on the CPU. PluginError unless all are finite."""
    need(isinstance(scores, Tensor), plugin, f"{where} returned {type(scores).__name__}")
    need(
        scores.shape == (samples,),
        plugin,
        f"{where}'s scores are {list(scores.shape)}, expected [{samples}]",
    )
    need(bool(scores.isfinite().all()), plugin, f"{where} returned NaN or infinite scores")
    return scores.double().cpu()


def check_threshold(plugin: str, threshold: float | None) -> float | None:
    """An input detector's threshold as a float; None where it set none. PluginError for NaN."""
    with blamed(f"{plugin}, its threshold"):
        number = None if threshold is None else float(threshold)
    need(number is None or number == number, plugin, "screen set a threshold that is NaN")
    return number


def check_model_verdict(
    plugin: str, verdict: ModelVerdict, num_classes: int, sample: Tensor
) -> ModelVerdict:
    """A model detector's verdict, as it is. ``sample``: one image [1, C, H, W] of the data set.

    Raises PluginError unless there is an anomaly for each class, suspects are classes, and
    recovered triggers, if any, have the shape of ``sample``.
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
    one_of_each = sample[:1].expand(num_classes, -1, -1, -1)
    if verdict.masks is not None:
        check_images(plugin, "inspect's masks", verdict.masks, one_of_each[:, :1])
    if verdict.patterns is not None:
        check_images(plugin, "inspect's patterns", verdict.patterns, one_of_each)
    return verdict


def check_repaired(plugin: str, net: nn.Module, sample: Tensor, num_classes: int) -> nn.Module:
    """A repaired network, in evaluation mode. ``sample``: some images [N, C, H, W].

    Raises PluginError unless it maps them to finite logits [N, K] of as many classes.
    """
    need(isinstance(net, nn.Module), plugin, f"repair returned {type(net).__name__}")
    with blamed(plugin), torch.no_grad():
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        logits = net.eval()(sample.to(device))
    need(
        isinstance(logits, Tensor) and logits.shape == (len(sample), num_classes),
        plugin,
        f"the repaired network returns {list(getattr(logits, 'shape', []))}, "
        f"expected [{len(sample)}, {num_classes}]: repair must keep the number of classes",
    )
    need(bool(logits.isfinite().all()), plugin, "the repaired network returns NaN or infinity")
    return net
