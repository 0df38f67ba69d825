"""A limit on how long one cell may take."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fixtures.errors import BenchError

AGAIN_S = 1.0
"""Seconds after which the timer fires again, for a plugin whose ``except:`` caught the first."""


def parse_seconds(option: str, text: str | None) -> float | None:
    """``"90"`` -> 90.0 seconds; None -> no limit. Raises BenchError, which names ``option``."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BenchError(f"{option}: {text!r} is not a number of seconds like 90")
    return seconds


class CellTimeout(BaseException):
    """Not an Exception: a plugin's ``except Exception`` must not swallow it."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Raise CellTimeout in the block once ``seconds`` have passed; None is no limit.

    It interrupts Python code, sleeping and waiting; a call into C that never returns it cannot.
    Raises BenchError where there are no interval timers (Windows) or outside the main thread.
    """
    if seconds is None:
        yield
        return
    if not hasattr(signal, "setitimer"):
        raise BenchError("a limit of time needs interval timers, which this system does not have")
    if threading.current_thread() is not threading.main_thread():
        raise BenchError("a limit of time works in the main thread only")

    began = time.monotonic()
    closed = False

    def ring(_signal: int, _frame: FrameType | None) -> None:
        if not closed:
            raise CellTimeout

    def close() -> None:
        nonlocal closed
        closed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        if others:  # a timer that was set before, say pytest-timeout's, goes on
            left = others - (time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), again)

    previous = signal.signal(signal.SIGALRM, ring)
    others, again = signal.getitimer(signal.ITIMER_REAL)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
            yield
        finally:
            close()
    except CellTimeout:
        close()  # again: the timer may have fired while the first close() was at work
        raise
