"""A stranger's network out of its file. Nothing is unpickled; code is imported where named."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bench.auditing import graphs, weights
from fixtures.errors import BenchError


@dataclass(frozen=True, eq=False)
class Opened:
    """``net``: in evaluation mode, on the CPU. ``form``: what the file is."""

    net: nn.Module
    form: str


def opened(path: Path, arch: str = "", *, shape: tuple[int, int, int], classes: int) -> Opened:
    """The network of a file. Raises BenchError, one line, for one that is not to be had.

    ``arch``: whose weights they are, where the file holds weights alone: ``timm:NAME`` or
    ``package.module:factory``. ``shape``, ``classes``: of the data, for an architecture that is
    made for any.
    """
    if not path.is_file():
        raise BenchError(f"{path}: no such file")
    form = form_of(path)
    if form in weights.READERS:
        given = weights.READERS[form](path)
        return Opened(weights.filled(path, given, arch, shape, classes), form)
    if arch:
        raise BenchError(f"{path}: it is a {form}, which is whole without --arch {arch}")
    return Opened(graphs.Graph(graphs.READERS[form](path)), form)


def form_of(path: Path) -> str:
    """What a file is, by its first bytes and by what an archive lists. Raises BenchError."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from error
    if head.startswith(b"PK"):
        return _archive(path)
    if len(head) == 9 and head[8:] == b"{":
        return "safetensors file"
    if head.startswith((b"\x80", b"\x1f\x8b")):
        return "PyTorch checkpoint"
    if path.suffix == ".onnx":
        return "ONNX model"
    raise BenchError(
        f"{path}: it is no safetensors file, PyTorch checkpoint, TorchScript archive, torch.export "
        "program or .onnx model"
    )


def _archive(path: Path) -> str:
    try:
        names = zipfile.ZipFile(path).namelist()
    except zipfile.BadZipFile as error:
        raise BenchError(f"{path}: it is cut off or damaged ({error})") from error
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner):
        return "TorchScript archive"
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "torch.export program"
    if "data.pkl" in inner:
        return "PyTorch checkpoint"
    raise BenchError(f"{path}: a zip archive, but none of PyTorch's")
