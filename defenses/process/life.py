"""How a defender's process begins and ends."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import psutil

COPIES = sys.platform == "linux"
"""Whether a cell is served by a copy of the process that waits for cells."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FIRST_TO_GO = "1000"
"""Of two processes the kernel ends this one where memory runs out."""


def adopts() -> None:
    """Whatever its children start and leave behind becomes its own child. Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def leaves_nobody() -> None:
    """End and collect all that the last child has left behind."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    with suppress(ChildProcessError):
        while left and os.waitpid(-1, 0):
            pass


def begins() -> None:
    """A terminal's SIGINT is the benchmark's affair; where memory runs out this process goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)


def ends_with_parent() -> None:
    """Should the process that made this one be killed, this one is too. Linux alone.

    For a process that the main thread of its parent has made: the kernel goes by the thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def status_of(child: int, control: socket.socket) -> int:
    """The exit status of a child once it ends; it is ended where the benchmark is no more.

    ``control``: the connection to the benchmark, which says nothing meanwhile but that it closes.
    """
    with suppress(AttributeError, OSError):  # an old kernel: the child ends by itself
        watched = os.pidfd_open(child)
        ready, _, _ = select.select([watched, control.fileno()], [], [])
        os.close(watched)
        if watched not in ready:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
