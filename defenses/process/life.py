"""How a defender's process begins and ends."""

from __future__ import annotations

import ctypes
import os
import signal
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


def ends_with_parent() -> None:
    """Should the parent be killed, this process is too; a second SIGINT of a terminal is ignored.

    Linux alone: elsewhere the process ends when it next reads from its connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
