"""Starts a defender's process, talks to it, and ends it. No notion of a cell.

May be killed at any time: whatever runs in it, compiled code that never returns too.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import psutil
from torch import Tensor

from defenses.process import life
from defenses.process.messages import Said
from defenses.process.wire import Channel, Garbled, Gone
from fixtures import errors
from fixtures.errors import BenchError, PluginError

NUMBER = struct.Struct("<i")
START_S = 120.0
"""A process that is not there after so long is not coming."""

GRACE_S = 1.0
"""How long a process that has closed its connection may take to end."""

MEMORY_SHARE = 0.8
"""Of the memory that is free when a defender starts: what it may take."""

LOOKED_EVERY_S = 0.02


class Child:
    """One defender's process. ``pid``: its own."""

    def __init__(self, server: Server, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self.gpu_mib = 0.0
        self._server = server
        self._channel = Channel(connection, owns=True)
        self._status: int | None = None
        self._too_large = 0.0
        self._watch = threading.Event()
        self._most = MEMORY_SHARE * psutil.virtual_memory().available
        threading.Thread(target=self._look, name="triggerbench-child", daemon=True).start()

    def ask(
        self,
        plugin: str,
        message: msgspec.Struct,
        tensors: Sequence[Tensor] = (),
        files: Sequence[int] = (),
    ) -> tuple[object, dict[str, Tensor]]:
        """Its answer: plain JSON values, and tensors by name.

        Raises what the defense is to blame for, a PluginError or its kin, one line that begins with
        ``plugin``; also where the process is no more.
        """
        try:
            self._channel.send(message, tensors, files)
            said, found, extra = self._channel.receive(Said)
            for file in extra:
                os.close(file)
        except Gone:
            raise PluginError(f"{plugin}: {self._end()}") from None
        except Garbled:
            self.close()
            raise PluginError(f"{plugin}: its process sent what is no answer") from None
        self.gpu_mib = said.gpu_mib
        if said.error:
            kind = getattr(errors, said.kind, PluginError)
            known = isinstance(kind, type) and issubclass(kind, BenchError)
            raise (kind if known else PluginError)(said.error)
        if len(said.named) != len(found):
            self.close()
            raise PluginError(f"{plugin}: its process sent what is no answer")
        return said.value, dict(zip(said.named, found, strict=True))

    def close(self) -> None:
        """End the process, whatever it is at."""
        if self._status is None:
            self._watch.set()
            self._channel.close()
            self._kill()
            self._status = self._server.ended()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _end(self) -> str:
        """How it ended, as a clause."""
        self._watch.set()
        self._channel.close()
        if self._status is None:
            threading.Timer(GRACE_S, self._kill).start()  # it may only have closed its connection
            self._status = self._server.ended()
        if self._too_large:
            return (
                f"took more than {self._too_large / 2**30:.1f} GiB of memory, "
                f"{MEMORY_SHARE:.0%} of what was free"
            )
        if self._status < 0:
            with suppress(ValueError):
                name = signal.Signals(-self._status).name
                hint = ", as where memory runs out" if name == "SIGKILL" else ""
                return f"its process was ended by {name}{hint}"
        return f"ended its own process with exit status {self._status}"

    def _look(self) -> None:
        """End it once it takes too much: its own pages, not those of what it was handed."""
        try:
            process = psutil.Process(self.pid)
            while not self._watch.wait(LOOKED_EVERY_S):
                memory = process.memory_info()
                own = memory.rss - getattr(memory, "shared", 0)
                if own > self._most:
                    self._too_large = self._most
                    process.kill()
                    return
        except psutil.Error:  # it has ended
            return


@dataclass
class Server:
    """The process that defenders' processes are made by, see `defenses.process`."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    ready: bool = False

    def child(self) -> Child:
        """A new defender's process. Raises BenchError where none can be had."""
        ours, theirs = socket.socketpair()
        try:
            if not self.ready:
                self.control.settimeout(START_S)
                if self.control.recv(1) != b"r":
                    raise OSError("it ended at once")
                self.control.settimeout(None)
                self.ready = True
            socket.send_fds(self.control, [b"c"], [theirs.fileno()])
            (pid,) = NUMBER.unpack(_whole(self.control))
            if pid <= 0:
                raise OSError(f"it names process {pid}")
        except BaseException as error:  # an interruption, too: half a message would be left
            ours.close()
            self.stop()
            if isinstance(error, OSError | struct.error):
                raise BenchError(f"no process for a defender can be started: {error}") from error
            raise
        finally:
            theirs.close()
        return Child(self, ours, pid)

    def ended(self) -> int:
        """The exit status of its child, which is ending, negative for a signal."""
        try:
            if life.COPIES:
                return int(NUMBER.unpack(_whole(self.control))[0])
            status = self.process.wait()
            self.stop()
            return status
        except BaseException as error:  # an interruption, too: half a message would be left
            self.stop()
            if isinstance(error, OSError | struct.error):
                return -signal.SIGKILL
            raise

    def stop(self) -> None:
        """End it; the next defender's process comes from a new one."""
        _started.cache_clear()
        self.control.close()
        self.process.kill()
        self.process.wait()


def server() -> Server:
    """The one of this process, started at the first call; it takes seconds to be ready.

    Raises BenchError on a system without Unix sockets.
    """
    found = _started(os.getpid())  # a fork of the benchmark has one of its own
    if found.process.poll() is not None:  # somebody has ended it
        found.stop()
        found = _started(os.getpid())
    return found


def search_path() -> list[str]:
    """Where this process finds modules, and a defender's does."""
    return [part or str(Path.cwd()) for part in sys.path]


@lru_cache(maxsize=1)
def _started(_process: int) -> Server:
    if not hasattr(socket, "send_fds"):
        raise BenchError(
            "a defense runs in a process of its own, which needs Unix sockets: on Windows, use WSL"
        )
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(search_path())
    hidden = {name for name in os.environ if name.startswith(("TRIGGERBENCH_", "PYTEST_"))}
    surroundings = {name: v for name, v in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "defenses.process", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**surroundings, "PYTHONPATH": path},
        start_new_session=True,
    )
    theirs.close()
    found = Server(process, ours)
    atexit.register(found.stop)
    return found


def _whole(connection: socket.socket) -> bytes:
    return connection.recv(NUMBER.size, socket.MSG_WAITALL)
