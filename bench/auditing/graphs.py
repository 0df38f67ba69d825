"""Networks from files that hold a whole graph: TorchScript, torch.export, ONNX."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.auditing.lines import one_line
from fixtures.errors import BenchError

NOTES = frozenset(
    (
        *("archive_format", "archive_version", "version", "byteorder"),
        *(".data/version", ".data/serialization_id"),
    )
)
"""Parts of a torch.export archive that are read as text."""


class Graph(nn.Module):
    """A graph as it was saved, which has no mode to be put in: images -> logits, in float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.training = False

    def train(self, mode: bool = True) -> Graph:  # noqa: ARG002 - it has one
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.net(images.float())
        return logits


def torchscript(path: Path) -> nn.Module:
    """Raises BenchError for an archive that cannot be loaded."""
    try:
        net: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise BenchError(f"{path}: its TorchScript cannot be loaded ({one_line(error)})") from error
    return net.eval()


def exported(path: Path) -> nn.Module:
    """A program whose archive holds nothing that its loader would unpickle.

    The loader reads weights as plain bytes where the archive says so, and all else by
    ``torch.load``, which for some parts allows any pickle: each of those must load as tensors
    alone. Raises BenchError for one that does not, and for a program that cannot be loaded.
    """
    with zipfile.ZipFile(path) as archive:
        plain = _plain(archive)
        for name in archive.namelist():
            part = name.partition("/")[2] or name
            if part in plain or part in NOTES or part.endswith(".json"):
                continue
            try:
                torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
            except Exception as error:  # of whatever it holds
                raise BenchError(
                    f"{path}: its part {name} would have to be unpickled, which was not done; "
                    "export the program without example inputs or constants that are no tensors"
                ) from error
    try:
        net: nn.Module = torch.export.load(str(path)).module()
    except Exception as error:  # of its many parsers
        raise BenchError(f"{path}: its program cannot be loaded ({one_line(error)})") from error
    return net


def _plain(archive: zipfile.ZipFile) -> set[str]:
    """Parts that are the bytes of one tensor."""
    found = set()
    for folder, config in (("weights", "model_weights"), ("constants", "model_constants")):
        for name in archive.namelist():
            if name.endswith(f"data/{folder}/{config}_config.json"):
                for entry in json.loads(archive.read(name)).get("config", {}).values():
                    if not entry.get("use_pickle", True):
                        found.add(f"data/{folder}/{entry['path_name']}")
    return found


def onnx(path: Path) -> nn.Module:
    """By onnx2torch, whose modules give gradients. Raises BenchError, one line."""
    try:
        from onnx import load
        from onnx2torch import convert

        from bench.auditing.converting import known
    except ImportError as error:
        raise BenchError(
            f"{path}: ONNX models need onnx and onnx2torch ({error}): "
            "python -m pip install 'triggerbench[onnx]'"
        ) from error
    try:
        net: nn.Module = convert(known(load(path)))
    except Exception as error:  # of its parser, and of operators that it does not know
        raise BenchError(f"{path}: it cannot be converted ({one_line(error)})") from error
    return net.eval()


READERS: dict[str, Callable[[Path], nn.Module]] = {
    "TorchScript archive": torchscript,
    "torch.export program": exported,
    "ONNX model": onnx,
}
