"""The cluster: joined or started, and what is known of its nodes."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.cluster import tasks
from bench.cluster.tasks import About, Surroundings
from fixtures.errors import BenchError

ANSWERS_S = 10.0
"""An address that does not answer for so long is nobody's."""

PROBED_S = 120.0
"""A node that does not say so long what it is is left out."""


@dataclass(frozen=True)
class Asked:
    """``--executor ray://HOST:PORT+gpus=0.5+memory=4``: ``gpus`` of one run, ``memory`` in GiB.

    ``address``: empty for `RAY_ADDRESS`, the cluster of this machine, or a new one.
    """

    address: str = ""
    gpus: float = 1.0
    memory: float = 0.0


LIBRARIES = ("torch", "torchvision", "pillow", "numpy", "scikit-learn", "scipy", "torchmetrics",
             "timm")  # fmt: skip
"""What may be among the versions of an identity."""

Kind = tuple[tuple[str, Any], ...]
"""Nodes of one kind give equal figures, to the last digit."""


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
        fit = [self.cores // threads, self.memory // memory]
        return int(min([*fit, self.all_gpus // self.gpus] if self.gpus else fit))


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
            found[name] = -1.0
        if name not in ("gpus", "memory") or found[name] <= 0:
            raise BenchError(
                f"--executor: {pair!r} is neither gpus=SHARE nor memory=GIB, a number over 0"
            )
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
    try:
        ray.init(address=address or None, **quiet)
    except Exception as error:  # Ray raises whatever its parts do
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


def placed(node: str, **resources: Any) -> dict[str, Any]:
    """Options of a task that runs on a node and nowhere else, and is not repeated by Ray."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"scheduling_strategy": where, "max_retries": 0, **resources}


def probed(
    new: Mapping[str, Mapping[str, float]], how: Asked, around: Surroundings
) -> Iterator[Node | str]:
    """Each new node, or a line that says why it is left out."""
    ray = library()
    remote = ray.remote(tasks.about)
    asked_of = {}
    for node, resources in new.items():
        gpus = min(how.gpus, resources.get("GPU", 0.0)) if around.device != "cpu" else 0.0
        options = placed(node, num_cpus=min(around.threads, resources["CPU"]), num_gpus=gpus)
        asked_of[node] = (gpus, remote.options(**options).remote(around, LIBRARIES))
    for node, (gpus, answer) in asked_of.items():
        resources = new[node]
        try:
            about = ray.get(answer, timeout=PROBED_S)
        except Exception as error:  # it is gone already, or has not this project
            line = " ".join(str(getattr(error, "cause", None) or error).split())[-200:]
            yield f"node {node[:8]} is left out: {line}"
            continue
        if about.code != tasks.code():
            yield (
                f"{about.host} is left out: it has triggerbench {about.code}, this is "
                f"{tasks.code()}"
            )
            continue
        memory = resources.get("memory", 0.0)
        yield Node(node, about, resources["CPU"], memory, resources.get("GPU", 0.0), gpus)
