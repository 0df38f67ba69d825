"""Networks from files that hold a whole graph: TorchScript, torch.export, ONNX."""

from __future__ import annotations

import copy
import io
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.auditing.lines import one_line
from bench.auditing.programs import Refused, harmless
from fixtures.errors import BenchError

FORBIDDEN = re.compile(rb"\b(from_file|save|load)\b|(?<![.\w])ops\.(?!prim\b|aten\b)")
"""Words of TorchScript's code that read or write files, or call what is not PyTorch's own."""


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


def copied(net: nn.Module) -> nn.Module:
    """A copy, whose weights are leaves of their own; a TorchScript module's would not be."""
    with torch.no_grad():
        return copy.deepcopy(net)


def torchscript(path: Path) -> nn.Module:
    """Raises BenchError for an archive that cannot be loaded, or whose code touches files."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                found = FORBIDDEN.search(archive.read(name)) if name.endswith(".py") else None
                if found is not None:
                    raise BenchError(
                        f"{path}: its code says {found[0].decode()!r} ({name}), which may read or "
                        "write files, and was not run; save the weights alone"
                    )
        net: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BenchError(f"{path}: its TorchScript cannot be loaded ({one_line(error)})") from error
    return net.eval()


def exported(path: Path) -> nn.Module:
    """A program of tensors and PyTorch's own operators alone, see `programs`.

    Raises BenchError for one that holds anything else, and for one that cannot be loaded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            program = harmless(archive)
        net: nn.Module = torch.export.load(io.BytesIO(program)).module()
    except Refused as error:
        raise BenchError(
            f"{path}: it was not loaded: {error}; save the weights alone, or export the program "
            "with tensors as its only inputs and constants"
        ) from error
    except Exception as error:  # of its many parsers
        raise BenchError(f"{path}: its program cannot be loaded ({one_line(error)})") from error
    return net


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
