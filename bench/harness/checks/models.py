"""What every model must keep to: it builds from a seed, trains, and can be stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.harness.checks.common import GRID, Shape, named
from fixtures.blame import blamed, need
from fixtures.images import ImageSet
from fixtures.models import MODELS
from fixtures.recipes import Recipe
from fixtures.seeding import seeded
from fixtures.training import fit, predict


def check_model(plugin: str | Callable[..., nn.Module], **params: Any) -> None:
    """Build a model for every shape and number of classes of `GRID`, train it a step, store it.

    ``params``: its arguments. Raises PluginError, one line.
    """
    name = named("model", plugin)
    for shape, num_classes in GRID:
        where = f"{name} for images {list(shape)} of {num_classes} classes"
        _check_model(where, plugin, shape, num_classes, params)


def _check_model(
    name: str,
    plugin: str | Callable[..., nn.Module],
    shape: Shape,
    num_classes: int,
    params: dict[str, Any],
) -> None:
    def built(seed: int) -> nn.Module:
        factory = MODELS[plugin].factory if isinstance(plugin, str) else plugin
        with blamed(name), seeded(seed):
            return factory(shape=shape, num_classes=num_classes, **params)

    def answers(net: nn.Module, some: Tensor) -> Tensor:
        return _logits(name, net, some, num_classes)

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, *shape, generator=generator)
    labels = torch.arange(64) % num_classes
    net = built(seed=0)
    need(isinstance(net, nn.Module), name, f"is no nn.Module but {type(net).__name__}")
    before = answers(net, images)
    need(torch.equal(before, answers(net, images)), name, "answers differently when repeated")
    need(
        torch.allclose(before[:2], answers(net, images[:2]), rtol=1e-2, atol=1e-2),
        name,
        "answers differently for an image in another batch, in evaluation mode",
    )
    need(torch.equal(before, answers(built(seed=0), images)), name, "ignores PyTorch's seed")
    need(
        not torch.equal(before, answers(built(seed=1), images)),
        name,
        "starts from the same weights whatever the seed",
    )
    with blamed(name):
        fit(net, ImageSet(images, labels), Recipe(epochs=1, min_steps=1), generator=generator)
    after = answers(net, images)
    need(not torch.equal(before, after), name, "is not changed by training")
    fresh = built(seed=1)
    with blamed(name):
        fresh.load_state_dict(net.state_dict())
    need(
        torch.equal(after, answers(fresh, images)),
        name,
        "answers differently after its state was stored and loaded: "
        "keep what it needs in a Parameter or a buffer",
    )


def _logits(name: str, net: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """float32 [N, K], checked: the right shape, finite, the images untouched."""
    given = images.clone()
    with blamed(name):
        logits = predict(net, given)
    need(torch.equal(given, images), name, "changed its input in place")
    need(
        logits.shape == (len(images), num_classes),
        name,
        f"returned logits {list(logits.shape)}, expected {[len(images), num_classes]}",
    )
    need(bool(logits.isfinite().all()), name, "returned NaN or infinite logits")
    return logits
