"""A network after a repair, and the file that it is written to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.auditing.examine import Given, view_of
from bench.auditing.graphs import Graph
from bench.auditing.lines import one_line
from bench.runtime import files
from defenses import DEFENSES, Repair
from fixtures.errors import BenchError
from fixtures.recipes import Recipe
from fixtures.training import accuracy

RECIPE = Recipe(optimizer="sgd", peak_lr=4e-3, weight_decay=5e-4)
"""Of a network whose own is not known: `fine_tuning` at its default then has a peak of 0.01, the
fine-tuning rate of BackdoorBench."""


@dataclass(frozen=True, eq=False)
class Mended:
    """``net``: repaired, as it was given. ``before``, ``after``: accuracies on the clean images,
    which the repair has seen. How much of a backdoor is left nobody can tell without its trigger.
    """

    net: nn.Module
    before: float
    after: float


def mended(name: str, given: Given, params: Mapping[str, Any]) -> Mended:
    """A copy of the network after the repair ``name`` with those parameters.

    Raises BenchError where it is no repair, does not apply, or fails.
    """
    defense = check_repair(name, has_suspect=given.suspect is not None, **params)
    view = view_of(given, defense.sees, RECIPE)
    reason = defense.supports(view)
    if reason is not None:
        raise BenchError(f"--repair: {name} does not apply: {reason}")
    view.model.requires_grad_()
    try:
        net = defense.repair(view).eval()
    except Exception as error:  # a stranger's network may lack whatever a repair needs
        raise BenchError(
            f"--repair: {name} fails: {type(error).__name__}: {one_line(error)}"
        ) from error
    return Mended(net, accuracy(given.net, given.clean), accuracy(net, given.clean))


def check_repair(name: str, *, has_suspect: bool, **params: Any) -> Repair:
    """The repair of that name. Raises BenchError where it is none, or sees what is not there."""
    defense = DEFENSES.create(name, **params)
    if not isinstance(defense, Repair):
        raise BenchError(f"--repair: {name} is no repair; known: {', '.join(_repairs())}")
    if "suspect" in defense.sees and not has_suspect:
        raise BenchError(f"--repair: {name} needs the training set: --suspect DIR")
    return defense


def _repairs() -> list[str]:
    return [name for name in DEFENSES.names() if isinstance(DEFENSES.create(name), Repair)]


def write(path: Path, form: str, net: nn.Module, sample: Tensor) -> None:
    """The network as a file of the form that it came in; ``sample``: images as it takes them.

    Raises BenchError, leaving nothing half-written.
    """
    files.make_folder(path.parent)
    with files.whole(path) as part:
        try:
            WRITERS[form](part, net.net if isinstance(net, Graph) else net, sample)
        except OSError:
            raise
        except Exception as error:  # of exporters, each with its own
            raise BenchError(
                f"{path}: the repaired model cannot be written as {form} "
                f"({type(error).__name__}: {one_line(error)})"
            ) from error


def _safetensors(path: Path, net: nn.Module, _sample: Tensor) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)


def _checkpoint(path: Path, net: nn.Module, _sample: Tensor) -> None:
    torch.save(net.state_dict(), path)


def _torchscript(path: Path, net: nn.Module, _sample: Tensor) -> None:
    torch.jit.save(net, str(path))


def _exported(path: Path, net: nn.Module, sample: Tensor) -> None:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (sample,), dynamic_shapes=({0: batch},))
    with path.open("wb") as file:
        torch.export.save(program, file)


def _onnx(path: Path, net: nn.Module, sample: Tensor) -> None:
    from bench.auditing.converting import OPSET

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (sample,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,  # what the newer exporter writes, fewer programs read
        )


WRITERS: dict[str, Callable[[Path, nn.Module, Tensor], None]] = {
    "safetensors file": _safetensors,
    "PyTorch checkpoint": _checkpoint,
    "TorchScript archive": _torchscript,
    "torch.export program": _exported,
    "ONNX model": _onnx,
}
