"""What travels between machines as bytes: victims, data sets, modules of plugins."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.runtime import files
from bench.spec.job import VictimJob
from bench.victims.store import files_of
from fixtures.datasets import Dataset
from fixtures.errors import BenchError
from fixtures.places import cache_folder

Files = Mapping[str, bytes]
"""By the ending of a victim's file, its content."""

LARGEST = 64 << 20
"""Bytes of a package that is sent along."""

SHIPPED = "shipped"
"""The folder in a node's cache where data sets and modules lie that came from elsewhere."""


def packed(victim: VictimJob) -> Files:
    """The files of a victim that is stored. Raises BenchError where one cannot be read."""
    try:
        return {path.suffix: path.read_bytes() for path in files_of(victim.path)}
    except OSError as error:
        raise BenchError(f"{error.filename}: {error.strerror}") from error


def stored(victim: VictimJob, content: Files) -> None:
    """Write a victim's files where its job says that they lie, unless they are there."""
    files.make_folder(victim.path.parent)
    with files.locked(victim.path):
        if all(path.exists() for path in files_of(victim.path)):
            return
        for path in files_of(victim.path):
            files.write(path, content[path.suffix])


@dataclass(frozen=True)
class Shipment:
    """A data set in memory: ``frame`` is all of it but its numbers, which are ``arrays``."""

    fingerprint: str
    frame: bytes
    arrays: Sequence[np.ndarray[Any, Any]]


def shipped(dataset: Dataset) -> Shipment:
    """A data set as arrays, which can be shared or mapped where they arrive."""
    arrays: list[np.ndarray[Any, Any]] = []

    class Parting(pickle.Pickler):
        """Tensors as NumPy's arrays, whose bytes stay out of the frame."""

        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, Tensor):
                return torch.from_numpy, (thing.contiguous().numpy(),)
            return NotImplemented

    def aside(buffer: pickle.PickleBuffer) -> None:
        arrays.append(np.frombuffer(buffer.raw(), np.uint8))

    frame = io.BytesIO()
    Parting(frame, protocol=5, buffer_callback=aside).dump(dataset)
    return Shipment(dataset.fingerprint, frame.getvalue(), arrays)


def unpacked(shipment: Shipment) -> Dataset:
    """The data set again, its arrays mapped from files in this node's cache, written once."""
    folder = files.make_folder(cache_folder() / SHIPPED / shipment.fingerprint)
    mapped = []
    with files.locked(folder / "arrays"):
        for at, array in enumerate(shipment.arrays):
            path = folder / f"{at}.bin"
            if not path.exists() or path.stat().st_size != array.nbytes:
                with files.whole(path) as temporary:
                    array.tofile(temporary)
            # Changes, which nobody makes, would stay in this process.
            mapped.append(np.memmap(path, np.uint8, "c") if array.nbytes else bytearray())
    found: Dataset = pickle.loads(shipment.frame, buffers=mapped)
    return found


@dataclass(frozen=True)
class Module:
    """A module that was given with ``-p``, or the package that it is of: ``content`` by path below
    the folder it is found in."""

    name: str
    content: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        found = hashlib.sha256(self.name.encode())
        for path, source in sorted(self.content.items()):
            found.update(path.encode() + b"\0" + source)
        return found.hexdigest()[:16]


def module(name: str) -> Module | None:
    """A module of this process, with all of its package; None where it has no files of its own.

    Raises BenchError for a package that is too large to be sent.
    """
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return Module(name, {origin.name: origin.read_bytes()})
    paths = [
        path
        for path in sorted(origin.parent.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    size = sum(path.stat().st_size for path in paths)
    if size > LARGEST:
        raise BenchError(
            f"-p {name}: its package has {size / 2**20:.0f} MiB, too much to be sent to nodes; "
            "install it there"
        )
    top = origin.parent.parent
    return Module(name, {str(path.relative_to(top)): path.read_bytes() for path in paths})


def imported(modules: Sequence[Module]) -> None:
    """Import modules from elsewhere in this process, each as it was sent, once."""
    for one in modules:
        folder = cache_folder() / SHIPPED / f"{one.name}-{one.digest}"
        if str(folder) in sys.path:
            continue
        for path, source in one.content.items():
            target = folder / path
            if not target.exists() or target.read_bytes() != source:
                files.write(target, source)
        sys.path.insert(0, str(folder))
        try:
            importlib.invalidate_caches()
            importlib.import_module(one.name)
        except BaseException:
            sys.path.remove(str(folder))
            raise
