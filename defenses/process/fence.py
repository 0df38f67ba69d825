"""What the Linux kernel (Landlock) keeps a defender's process from, compiled code included.

The same lines as `defenses.process.guard` draws, without its explanations: what is not allowed is
"permission denied". Where the kernel has no Landlock the audit hook is alone.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on every architecture."""

ASKS_VERSION = 1
PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE = 1 << 14
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READ = EXECUTE | READ_FILE | READ_DIR
BY_VERSION = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE))
"""Rights on files that each version of Landlock knows: all of the first version, moving files
between folders, cutting them short."""

TCP = 0b11
"""To bind and to connect, from version 4."""

SCOPED = 0b11
"""Abstract sockets and signals of other processes, from version 6."""


class Ruleset(ctypes.Structure):
    """What is not allowed unless a rule says so."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class Beneath(ctypes.Structure):
    """What is allowed in a folder, or of a file."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def enclose(readable: Iterable[str], listed: Iterable[str], writable: Iterable[str]) -> bool:
    """From now on this process reads and writes beneath those folders, and nowhere else.

    ``listed``: folders whose names may be listed though not all in them may be read. It opens no
    TCP connection and sends no signal to another process. Whether the kernel does it.
    """
    if sys.platform != "linux":
        return False
    system = ctypes.CDLL(None, use_errno=True).syscall
    version = system(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASKS_VERSION))
    if version < 1:
        return False
    known = sum(rights for since, rights in BY_VERSION if version >= since)
    rules = Ruleset(known, TCP if version >= 4 else 0, SCOPED if version >= 6 else 0)
    size = 8 * (1 + (version >= 4) + (version >= 6))
    ruleset = system(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for rights, paths in ((READ, readable), (READ_DIR, listed), (known, writable)):
            for path in paths:
                _allow(system, ruleset, path, rights & known)
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(system(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _allow(system: ctypes._NamedFuncPointer, ruleset: int, path: str, rights: int) -> None:
    with suppress(OSError):  # what is not there need not be allowed
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not Path(path).is_dir():
                rights &= OF_FILES
            rule = Beneath(rights, folder)
            system(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
        finally:
            os.close(folder)
