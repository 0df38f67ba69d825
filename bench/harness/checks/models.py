"""What every model must keep to: it builds from a seed, trains, stores, and says what it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.harness.checks.common import named
from bench.runtime.contracts import blamed, need
from fixtures import models
from fixtures.datasets import ImageSet
from fixtures.models import MODELS
from fixtures.seeding import seeded
from fixtures.training import Recipe, fit, predict

Shape = tuple[int, int, int]
"""Channels, height, width."""

SHAPES = ((1, 28, 28), (3, 32, 32))
"""Of MNIST and CIFAR-10: what a model is built for."""

NUM_CLASSES = 10


def check_model(plugin: str | Callable[..., nn.Module], **params: Any) -> None:
    """Build a model for grey and coloured images, train it for a step, store it and reset it.

    ``params``: its arguments. A model that `fixtures.models.untrained` cannot reset is told in a
    warning: defenses that train one anew cannot be run on it.
    """
    name = named("model", plugin)
    for shape in SHAPES:
        _check_model(f"{name} for images {list(shape)}", plugin, shape, params)


def _check_model(
    name: str, plugin: str | Callable[..., nn.Module], shape: Shape, params: dict[str, Any]
) -> None:
    def built(seed: int) -> nn.Module:
        factory = MODELS[plugin].factory if isinstance(plugin, str) else plugin
        with blamed(name), seeded(seed):
            return factory(shape=shape, num_classes=NUM_CLASSES, **params)

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, *shape, generator=generator)
    labels = torch.arange(64) % NUM_CLASSES
    net = built(seed=0)
    need(isinstance(net, nn.Module), name, f"is no nn.Module but {type(net).__name__}")
    before = _logits(name, net, images)
    need(torch.equal(before, _logits(name, net, images)), name, "answers differently when repeated")
    need(
        torch.allclose(before[:2], _logits(name, net, images[:2]), rtol=1e-2, atol=1e-2),
        name,
        "answers differently for an image in another batch, in evaluation mode",
    )
    need(torch.equal(before, _logits(name, built(seed=0), images)), name, "ignores PyTorch's seed")
    need(
        not torch.equal(before, _logits(name, built(seed=1), images)),
        name,
        "starts from the same weights whatever the seed",
    )
    with blamed(name):
        fit(net, ImageSet(images, labels), Recipe(epochs=1, min_steps=1), generator=generator)
    after = _logits(name, net, images)
    need(not torch.equal(before, after), name, "is not changed by training")
    fresh = built(seed=1)
    with blamed(name):
        fresh.load_state_dict(net.state_dict())
    need(
        torch.equal(after, _logits(name, fresh, images)),
        name,
        "answers differently after its state was stored and loaded: "
        "keep what it needs in a Parameter or a buffer",
    )
    _check_reset(name, net, images)


def _check_reset(name: str, net: nn.Module, images: Tensor) -> None:
    """Every weight is drawn anew, or `models.untrained` says which cannot be."""
    with blamed(name):
        try:
            first, again, other = (models.untrained(net, seed) for seed in (0, 0, 1))
        except LookupError as error:
            warnings.warn(
                f"{name} cannot be reset: {error}; defenses that train anew do not run on it",
                stacklevel=2,
            )
            return
    logits = _logits(name, first, images)
    need(torch.equal(logits, _logits(name, again, images)), name, "is reset differently each time")
    need(
        not torch.equal(logits, _logits(name, other, images)),
        name,
        "is reset to the same weights whatever the seed",
    )


def _logits(name: str, net: nn.Module, images: Tensor) -> Tensor:
    """float32 [N, K], checked: the right shape, finite, the images untouched."""
    given = images.clone()
    with blamed(name):
        logits = predict(net, given)
    need(torch.equal(given, images), name, "changed its input in place")
    need(
        logits.shape == (len(images), NUM_CLASSES),
        name,
        f"returned logits {list(logits.shape)}, expected {[len(images), NUM_CLASSES]}",
    )
    need(bool(logits.isfinite().all()), name, "returned NaN or infinite logits")
    return logits
