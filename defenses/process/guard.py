"""What a defense may not do in its process, noticed by an audit hook that says what it was.

It reads its own code, libraries and what it was handed; it writes temporary files; it starts no
process and opens no connection. Compiled code goes around an audit hook, and who sets out to can
disarm one: on Linux the kernel holds the same line, see `defenses.process.fence`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fixtures.errors import PluginError

UNKNOWN = ("attacks", "bench", "fixtures.datasets", "fixtures.packing")
"""Packages that a defender has not: its process cannot import them."""

PROCESSES = frozenset({
    "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.spawn", "pty.spawn",
    "subprocess.Popen",
})  # fmt: skip
HARMLESS = frozenset({"cc", "fc-list", "gcc", "ld", "ldconfig", "lscpu", "objdump", "uname"})
"""Programs that libraries ask about fonts, libraries and processors, and do without."""

CONNECTIONS = frozenset({
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
})  # fmt: skip
SIGNALS = frozenset({"os.kill", "os.killpg", "signal.pthread_kill"})
CHANGES = frozenset({
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "os.utime", "os.setxattr",
})  # fmt: skip
LISTINGS = frozenset({"os.listdir", "os.scandir"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DEVICES = ("/dev/null", "/dev/zero", "/dev/tty", "/dev/nvidia", "/dev/dri", "/dev/kfd")
"""What their names begin with may be written to."""


class Guard:
    """``readable``: folders and files that may be read; ``listed``: folders of which the names may;
    ``hidden``: what may not, and why.

    ``scratch``: the folder for temporary files. ``breaches``: what was attempted, one line each: a
    defense that catches the error has done it all the same.
    """

    def __init__(
        self,
        readable: Iterable[str],
        listed: Iterable[str],
        hidden: Mapping[str, str],
        scratch: str,
    ) -> None:
        self._readable = tuple(os.path.realpath(path) for path in (*readable, scratch))
        self._listed = tuple(os.path.realpath(path) for path in listed)
        self._hidden = {os.path.realpath(path): what for path, what in hidden.items()}
        self._scratch = os.path.realpath(scratch)
        self.breaches: list[str] = []

    def install(self) -> None:
        """From now on, for as long as the process lives."""
        sys.addaudithook(self._hook)
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None:  # it starts processes without an audit event
            vars(multiprocessing)["spawnv_passfds"] = self._starts

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._opens(*args)
        elif event == "subprocess.Popen" and _program(args[0]) in HARMLESS:
            raise PermissionError("a defense starts no program")
        elif event == "import":
            self._imports(args[0])
        elif event in LISTINGS:
            self._reads(args[0], self._listed)
        elif event in CHANGES:
            for path, folder in _changed(event, args):
                self._changes(path, folder)
        elif event in PROCESSES:
            self._starts()
        elif event in SIGNALS:
            self._breach("sends a signal to a process")
        elif event in CONNECTIONS:
            self._breach("opens a connection")

    def _opens(self, path: Any, mode: Any, flags: Any) -> None:
        writes = (isinstance(flags, int) and flags & WRITES) or (
            isinstance(mode, str) and set(mode) & set("wax+")
        )
        if writes:
            self._writes(path)
        else:
            self._reads(path)

    def _imports(self, name: str) -> None:
        for package in UNKNOWN:
            if name == package or name.startswith(f"{package}."):
                self._breach(f"imports {name}, which a defender has not")

    def _starts(self, *_: Any) -> None:
        self._breach("starts another process")

    def _reads(self, path: Any, listed: tuple[str, ...] = ()) -> None:
        real = _real(path)
        if real is None:
            return
        for hidden, what in self._hidden.items():
            if _within(real, hidden):
                self._breach(f"reads {real}, {what}")
        if real in listed or any(_within(real, folder) for folder in self._readable):
            return
        if Path(real).exists():
            self._breach(f"reads {real}, which is not its own")

    def _writes(self, path: Any) -> None:
        if not isinstance(path, int):  # what is open already was asked for before
            self._changes(path)

    def _changes(self, path: Any, folder: int = -1) -> None:
        real = _real(path, folder) or os.fsdecode(path)
        if not (_within(real, self._scratch) or real.startswith(DEVICES)):
            self._breach(f"writes to {real}: only temporary files may be written")

    def _breach(self, what: str) -> None:
        self.breaches.append(what)
        raise PluginError(what)


def _real(path: Any, folder: int = -1) -> str | None:
    """With links followed; None for what is open already and for this process's own state.

    ``folder``: an open one that the path begins in, else -1.
    """
    if isinstance(path, int):
        return None
    try:
        name = os.fsdecode("." if path is None else path)
        base = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else ""
        whole = os.path.abspath(os.path.join(base, name))  # noqa: PTH100, PTH118 - links come later
    except (TypeError, ValueError, OSError):  # no path: the call fails by itself
        return None
    if whole.startswith(("/dev/fd/", "/proc/self/fd/")):
        return None
    real = _resolved(whole)
    return None if _within(real, f"/proc/{os.getpid()}") else real


_resolved = lru_cache(maxsize=4096)(os.path.realpath)
"""Libraries open the same files again and again."""


def _changed(event: str, args: tuple[Any, ...]) -> list[tuple[Any, int]]:
    """The paths that an event would change, each with the open folder that it begins in."""
    paths = 2 if event in ("os.rename", "os.link", "os.symlink") else 1
    known = event not in ("os.truncate", "os.setxattr") and len(args) > paths
    found = []
    for path, folder in zip_longest(args[:paths], args[-paths:] if known else ()):
        at = folder if isinstance(folder, int) else -1
        if event == "os.mkdir" and Path(_real(path, at) or "").is_dir():
            continue  # it fails by itself, as whoever asks expects
        if not isinstance(path, int):
            found.append((path, at))
    return found


def _program(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, str | bytes | os.PathLike) else ""


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
