"""Networks from files that hold weights alone: the architecture comes from where it is named."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.auditing.lines import one_line
from bench.spec.parameters import with_parameters
from fixtures.errors import BenchError
from fixtures.models import build_for
from fixtures.models.idle_taps import without_idle_taps

NAMED = 4
"""Tensors that do not fit that an error names."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
"""Entries under which checkpoints keep their weights."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What wrappers put before the names of weights."""

Weights = Mapping[str, Tensor]


def safetensors(path: Path) -> Weights:
    """The tensors of a safetensors file, by name. Raises BenchError for one that is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: Weights = load_file(path)
    except SafetensorError as error:
        raise BenchError(f"{path}: it is cut off or damaged ({one_line(error)})") from error
    return found


def checkpoint(path: Path) -> Weights:
    """The tensors of a file that ``torch.save`` wrote, by name; no code in it is run.

    Raises BenchError for one that is damaged, or that holds anything that would have to be run.
    """
    found = loaded(
        path,
        "save the weights alone, torch.save(model.state_dict(), FILE), or a safetensors file",
    )
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    return named(path, found)


def loaded(path: Path, way_out: str) -> Any:
    """What ``torch.save`` wrote: tensors, NumPy's arrays, plain values. No code in it is run.

    Raises BenchError for one that is damaged, or that asks for anything else, with ``way_out``.
    """
    try:
        with torch.serialization.safe_globals(_arrays()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = str(error).partition("GLOBAL ")[2].partition(" ")[0] or "objects of its own"
        raise BenchError(
            f"{path}: its pickle asks for {what}, which was not run; {way_out}"
        ) from error
    except Exception as error:  # of bytes that are none of a pickle's
        raise BenchError(f"{path}: it is cut off or damaged ({one_line(error)})") from error


def _arrays() -> list[Any]:
    """What NumPy's arrays and numbers are made of, under the names of NumPy 1 and 2."""
    made = {
        "_reconstruct": np.zeros(1).__reduce__()[0],
        "scalar": np.float64(0).__reduce__()[0],
    }
    kinds = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(what, f"{module}.{name}") for module in modules for name, what in made.items()]
    return [np.ndarray, np.dtype, *kinds, *named]


def named(path: Path, found: Any) -> Weights:
    """The tensors among a mapping's values. Raises BenchError where there are none."""
    items = found.items() if isinstance(found, Mapping) else ()
    tensors = {
        name: value
        for name, value in items
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided
    }
    if not tensors:
        raise BenchError(f"{path}: it holds no weights by name")
    return tensors


READERS: dict[str, Callable[[Path], Weights]] = {
    "safetensors file": safetensors,
    "PyTorch checkpoint": checkpoint,
}


def filled(
    path: Path, given: Weights, arch: str, shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """The architecture with a file's weights. Raises BenchError, which names what does not fit.

    ``arch``: ``timm:NAME``, a registered model, or ``package.module:factory``, whose code is then
    imported. Names that a wrapper put a prefix before are taken without it.
    """
    if not arch:
        raise BenchError(
            f"{path}: it holds weights alone; say whose: --arch timm:NAME or "
            "--arch package.module:factory"
        )
    net = without_idle_taps(_made(arch, shape, classes))
    own = net.state_dict()
    for prefix in PREFIXES:
        stripped = {name.removeprefix(prefix): value for name, value in given.items()}
        if not set(own) <= set(given) and set(own) <= set(stripped):
            given = stripped
    wrong = [
        *(f"{name} is missing" for name in own if name not in given),
        *(
            f"{name} is {list(given[name].shape)}, not {list(value.shape)}"
            for name, value in own.items()
            if name in given and given[name].shape != value.shape
        ),
        *(f"{name} is unknown" for name in given if name not in own),
    ]
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise BenchError(f"{path}: its weights are not of {arch}: {', '.join(wrong[:NAMED])}{more}")
    try:
        net.load_state_dict(dict(given))
    except RuntimeError as error:
        raise BenchError(f"{path}: its weights do not go into {arch}: {one_line(error)}") from error
    return net.eval()


def _made(arch: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """An architecture by its name. Its code is imported: whoever names it trusts it."""
    module, _, name = arch.partition(":")
    if module == "timm" or not name:
        try:
            known, params = with_parameters(arch)
        except ValueError as error:
            raise BenchError(f"--arch {arch}: {error}") from error
        built = build_for(known, shape, classes, **params)
        # What timm makes here is behind its normalisation; a file holds the weights of it alone.
        return built.net if module == "timm" and isinstance(built.net, nn.Module) else built
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(module), name)
        net = factory()
    except Exception as error:  # of code that anybody may have written
        raise BenchError(f"--arch {arch}: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(net, nn.Module):
        raise BenchError(f"--arch {arch}: it makes no nn.Module but a {type(net).__name__}")
    return net
