"""Makes what the first message hands over: view, defense, and the limits of this process."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from defenses.base import DEFENSES, Defense
from defenses.handed import Handed, Pixels
from defenses.process import fence
from defenses.process.guard import DEVICES, Guard
from defenses.process.messages import Opening
from fixtures.models import MODELS
from fixtures.recipes import Recipe


def confined(opening: Opening, files: list[int], guard: Guard) -> None:
    """From now on this process does what a defender may, and no more."""
    _temporary(opening.scratch)
    given = [f"/dev/fd/{file}" for file in files]
    own = [opening.scratch, "/proc/self", *map(str, _devices())]
    fence.enclose([*opening.readable, *given], opening.listed, own)
    guard.install()


def handed_over(opening: Opening, tensors: list[Tensor], files: list[int]) -> Handed:
    names = opening.weights
    count = len(names or ())
    parts = {
        part: Pixels(Path(f"/dev/fd/{file}"), labels)
        for part, file, labels in zip(opening.parts, files, tensors[count:], strict=True)
    }
    return Handed(
        shape=opening.shape,
        num_classes=opening.num_classes,
        device=torch.device(opening.device),
        seed=opening.seed,
        model=opening.model,
        model_params=opening.model_params,
        recipe=Recipe(**opening.recipe),
        weights=None if names is None else dict(zip(names, tensors[:count], strict=True)),
        clean=parts.get("clean"),
        suspect=parts.get("suspect"),
    )


def factories(opening: Opening) -> tuple[Callable[..., Defense], Callable[..., nn.Module]]:
    """Of the defense and the model. They come from the benchmark's own process."""
    sys.path[:] = opening.path
    for module in opening.modules:
        import_module(module)
    defense, model = cloudpickle.loads(opening.factories)
    return defense, model


def registered(
    opening: Opening, defense: Callable[..., Defense], model: Callable[..., nn.Module]
) -> None:
    """A plugin of no module that can be imported is registered here by its name."""
    if opening.defense not in DEFENSES:
        DEFENSES.register(opening.defense)(defense)
    if opening.model not in MODELS:
        MODELS.register(opening.model)(model)


def _devices() -> Iterator[Path]:
    """What a process may write to that is no file."""
    for path in Path("/dev").iterdir():
        if str(path).startswith(DEVICES):
            yield path


def _temporary(folder: str) -> None:
    """Where this process and its libraries keep what they write meanwhile."""
    tempfile.tempdir = folder
    os.environ |= {
        "TMPDIR": folder,
        "TORCHINDUCTOR_CACHE_DIR": folder,
        "MPLCONFIGDIR": folder,
        "HF_HUB_OFFLINE": "1",
    }


def seed(seed: int) -> None:
    """The global generators, whose state the benchmark's own process need not keep here."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
