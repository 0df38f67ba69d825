"""What a node runs: a victim's training, a cell's measurement, and what is said of the node.

Plain functions, which a test calls without any cluster. Nothing is raised: whatever goes wrong is
an `Outcome` that says so in one line.
"""

from __future__ import annotations

import faulthandler
import hashlib
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.cluster import parcels
from bench.cluster.parcels import Files, Module, Shipment
from bench.measure import resolve
from bench.measure import run as measured
from bench.runtime.child import server
from bench.runtime.deadline import CellTimeout, deadline
from bench.runtime.environment import CHECKOUT, machine
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.identity import Identity, differences
from bench.spec.job import Job
from bench.victims.provide import provide
from fixtures import datasets
from fixtures.errors import BenchError, DataError

PACKAGES = ("attacks", "bench", "defenses", "fixtures")

GRACE_S = 30.0
"""Past ``--cell-timeout``, what a task has to end itself before its process is ended."""

Fetched = Callable[[], Files]
"""Gives a victim's files, which lie in the cluster."""

Sent = tuple[str, Mapping[str, Any], Callable[[], Shipment]]
"""A data set's name and parameters, and what fetches it from the cluster."""


@dataclass(frozen=True)
class Surroundings:
    """What a task is run in. ``data``: the driver's data folder, where it named one, taken where
    the node has it too. ``threads``: that PyTorch computes with. ``timeout``: seconds that a task
    may take. ``sent``: data sets that nodes lack, by the cell's part of them.
    """

    data: Path | None
    device: str
    threads: int
    timeout: float | None
    modules: Sequence[Module] = ()
    sent: Mapping[str, Sent] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """``record``: its JSON, of a cell. ``error``: what went wrong, empty where nothing did.
    ``lacks``: the node has no such data set; ``fault``: another node would have done it; ``lost``:
    files of a victim are no more in the cluster. ``reused``: it had been made on this node before.
    ``warned``: warnings that the work gave."""

    record: bytes = b""
    error: str = ""
    lacks: bool = False
    fault: bool = False
    lost: bool = False
    reused: bool = False
    seconds: float = 0.0
    peak_mib: float = 0.0
    warned: Sequence[str] = ()


@dataclass(frozen=True)
class About:
    """A node: what of it decides figures, and whether it runs the same code.

    ``host``: its name. ``code``: of this project. ``machine``, ``versions``: as in an identity.
    """

    host: str
    code: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def about(around: Surroundings, libraries: Sequence[str]) -> About:
    """Of the node that this runs on."""
    torch.set_num_threads(around.threads)
    return About(
        host=socket.gethostname(),
        code=code(),
        machine=machine(Workspace(device=around.device).torch_device()),
        versions=dict(_versions(libraries)),
    )


def _versions(libraries: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in libraries:
        with suppress(PackageNotFoundError):
            yield name, version(name)


@lru_cache(maxsize=1)
def code() -> str:
    """Version and a hash of all modules of this project: 12 hexadecimal digits."""
    found = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            found.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return f"{version('triggerbench')} ({found.hexdigest()[:12]})"


def train(around: Surroundings, cell: Cell, expected: Identity) -> tuple[Outcome, Files]:
    """Train the victim of a cell, or find it on this node; and the victim's files."""
    content: Files = {}

    def work(job: Job, began: float) -> Outcome:
        nonlocal content
        _same(job.victim.identity, expected)
        there = job.victim.is_trained
        provide(job.victim)
        content = parcels.packed(job.victim)
        return Outcome(reused=there, seconds=time.monotonic() - began)

    return _guarded(around, cell, work), content


def measure(
    around: Surroundings, cell: Cell, expected: Identity, rerun: bool, needs: Sequence[Fetched]
) -> Outcome:
    """Measure a cell. ``needs``: what fetches the files of its victims, asked where the node has
    them not."""

    def work(job: Job, began: float) -> Outcome:
        _same(job.identity, expected)
        for victim, fetch in zip(job.needs, needs, strict=True):
            if not victim.is_trained:
                parcels.stored(victim, _fetched(fetch))
        if cell.defense != "none":
            server()
        record = measured(job, rerun=rerun)
        with tempfile.TemporaryDirectory() as folder:
            text = record.save(Path(folder) / "record.json").read_bytes()
        spent = time.monotonic() - began
        of_host = [mib for name, mib in record.memory.items() if not name.endswith("_gpu_mib")]
        peak = 0.0 if record.reused else max(of_host, default=0.0)
        return Outcome(text, reused=record.reused, seconds=spent, peak_mib=peak)

    return _guarded(around, cell, work)


def _fetched(fetch: Fetched) -> Files:
    try:
        return fetch()
    except Exception as error:  # whatever Ray says of an object that is gone
        raise _Lost from error


def _same(own: Identity, expected: Identity) -> None:
    """Raises _Fault where this node would measure something else."""
    found = differences(expected, own)
    if found:
        raise _Fault(f"it would measure something else: {'; '.join(found[:3])}")


def _guarded(around: Surroundings, cell: Cell, work: Callable[[Job, float], Outcome]) -> Outcome:
    """Whatever goes wrong becomes an outcome. Past the limit and `GRACE_S` the process is ended,
    whatever it is at."""
    if around.timeout is not None:
        faulthandler.dump_traceback_later(around.timeout + GRACE_S, exit=True)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with deadline(around.timeout):
                workspace = _prepared(around, cell)
                found = work(resolve(cell, workspace), time.monotonic())
    except _Lacking as error:
        return Outcome(error=str(error), lacks=True, fault=True)
    except _Lost:
        return Outcome(error="a victim's files are lost", lost=True)
    except BenchError as error:
        return Outcome(error=str(error))
    except CellTimeout:
        return Outcome(error=f"took longer than --cell-timeout {around.timeout:g} s")
    except Exception as error:  # of a node at fault, or a broken installation
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = "" if isinstance(error, _Fault) else f"{type(error).__name__}: "
        return Outcome(error=f"{kind}{line}", fault=True)
    finally:
        faulthandler.cancel_dump_traceback_later()
    lines = [str(one.message) for one in warned if "set aside" in str(one.message)]
    return replace(found, warned=lines)


class _Fault(Exception):
    """Another node would do."""


class _Lost(Exception):
    """What a task needs is no more in the cluster."""


class _Lacking(Exception):
    """The node has not the data set that the driver has."""


def _prepared(around: Surroundings, cell: Cell) -> Workspace:
    """Modules imported, the data set there. Raises _Lacking, BenchError."""
    torch.set_num_threads(around.threads)
    parcels.imported(around.modules)
    workspace = _workspace(around.data if around.data and around.data.is_dir() else None,
                           around.device)  # fmt: skip
    sent = around.sent.get(cell.data_name)
    try:
        dataset_of(cell, workspace)
    except DataError as error:
        if sent is None:
            raise _Lacking(str(error)) from None
        name, params, fetch = sent
        datasets.offer(parcels.unpacked(fetch()), name, **params)
    return workspace


@lru_cache(maxsize=1)
def _workspace(data: Path | None, device: str) -> Workspace:
    """One in a process, so that victims stay in memory from one cell to the next."""
    return Workspace(data=data, device=device)
