"""The cluster: joined or started, and what is known of its nodes."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.cluster.tasks import About
from fixtures.errors import BenchError

ANSWERS_S = 10.0
"""An address that does not answer for so long is nobody's."""

CLIENT_TRIES = 2
"""From outside, a cluster starts a process for each driver, and gives up where that takes long on a
busy head."""

LEAST_GPU = 1e-4
"""Ray counts shares of a GPU in such steps."""

Kind = tuple[tuple[str, Any], ...]
"""Nodes of one kind give equal figures, to the last digit."""


@dataclass(frozen=True)
class Asked:
    """``--executor ray://HOST:PORT+gpus=0.5+memory=4``: ``gpus`` of one run, ``memory`` in GiB.

    ``address``: empty for `RAY_ADDRESS`, the cluster of this machine, or a new one.
    """

    address: str = ""
    gpus: float = 1.0
    memory: float = 0.0


@dataclass(frozen=True)
class Node:
    """``cores``, ``memory`` in bytes, ``all_gpus``: of it. ``gpus``: that one run takes."""

    id: str
    about: About
    cores: float
    memory: float
    all_gpus: float
    gpus: float

    @property
    def kind(self) -> Kind:
        return (*sorted(self.about.machine.items()), *sorted(self.about.versions.items()))

    def slots(self, threads: int, memory: float) -> int:
        """Runs that it takes at a time. ``memory``: of one, in bytes."""
        fit = [self.cores / threads, self.memory / memory]
        fit += [self.all_gpus / self.gpus] if self.gpus else []
        return int(min(fit) + 1e-9)


def asked(text: str) -> Asked:
    """What ``--executor`` says after all. Raises BenchError, one line."""
    scheme, *pairs = text.split("+")
    if not re.fullmatch(r"ray(://\S+:\d+)?", scheme):
        raise BenchError(f"--executor: {text!r} is none of serial, ray, ray://HOST:PORT")
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if name not in ("gpus", "memory") or not 0 < found[name] < math.inf:
            raise BenchError(
                f"--executor: {pair!r} is neither gpus=SHARE nor memory=GIB, a number over 0"
            )
    gpus = found.get("gpus", 1.0)
    if gpus < LEAST_GPU or (gpus > 1 and gpus != int(gpus)):
        raise BenchError(f"--executor: gpus={gpus:g} is neither a share of a GPU nor whole ones")
    return Asked("" if scheme == "ray" else scheme, **found)


def library() -> Any:
    """Ray. Raises BenchError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise BenchError(
            "--executor ray: Ray is not installed; `pip install 'triggerbench[ray]'`"
        ) from None
    return ray


def joined(how: Asked) -> bool:
    """Join the cluster, or start one here; whether to leave it again. Raises BenchError, a line."""
    ray = library()
    address = how.address or os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto", "local"):
        _answers(address)
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        quiet["include_dashboard"] = False
    tries = CLIENT_TRIES if address.startswith("ray://") else 1
    for left in reversed(range(tries)):
        try:
            ray.init(address=address or None, **quiet)
            break
        except Exception as error:  # Ray raises whatever its parts do
            if not left:
                said = " ".join(str(error).split())
                raise BenchError(f"--executor: {address or 'a local Ray'}: {said[:300]}") from error
    return True


def _answers(address: str) -> None:
    """Raises BenchError where nobody listens there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWERS_S):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BenchError(f"--executor: nobody answers at {address} ({reason})") from None


def alive() -> dict[str, Mapping[str, float]]:
    """The resources of each node that is alive, by its id."""
    return {
        node["NodeID"]: node["Resources"]
        for node in library().nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    }


@cache
def remote(function: Any, *, leaves: bool = False) -> Any:
    """A function for Ray, made once: each making is another function to it.

    ``leaves``: its worker ends after it, which frees the GPU that it was given.
    """
    ray = library()
    return ray.remote(max_calls=1)(function) if leaves else ray.remote(function)


def placed(node: str, **resources: Any) -> dict[str, Any]:
    """Options of a task that runs on a node and nowhere else, and is not repeated by Ray."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"scheduling_strategy": where, "max_retries": 0, **resources}
