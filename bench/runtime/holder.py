"""Who works on a file: a process of some host, told apart also where hosts share a disk."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Holder:
    """``host``: the host's name. ``system``: a hash of what makes process ids comparable: the
    running system and the process namespace, so that two containers of one name are told apart.
    """

    host: str
    system: str
    pid: int

    def __str__(self) -> str:
        """As it stands in file names: ``host-system-pid``, without a dot."""
        return f"{self.host}-{self.system}-{self.pid}"

    @property
    def words(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether its process id means something to this process."""
        return (self.host, self.system) == _here()

    @property
    def is_gone(self) -> bool:
        """Whether its process has ended; of another system's processes nothing is known: False."""
        return self.is_here and not psutil.pid_exists(self.pid)


def this_process() -> Holder:
    host, system = _here()
    return Holder(host, system, os.getpid())


def parse(text: str) -> Holder | None:
    """What ``str`` wrote; None for anything else."""
    match = re.fullmatch(r"(.+)-([0-9a-f]{8})-(\d+)", text)
    return Holder(match[1], match[2], int(match[3])) if match else None


@lru_cache(maxsize=1)
def _here() -> tuple[str, str]:
    host = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())[:40] or "unnamed"
    return host, hashlib.sha256(f"{host} {_boot()} {_namespace()}".encode()).hexdigest()[:8]


def _boot() -> str:
    """Differs between running systems, also between two of one name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Differs between containers that number their processes each from 1."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
