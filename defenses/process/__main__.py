"""Serves defenders: ``python -m defenses.process DESCRIPTOR``, of the benchmark's connection.

On Linux one such process lives as long as the benchmark. It has imported what every defense needs
and has run no plugin; each cell is served by a copy of it (a fork), so that nothing of another cell
is in its memory. Elsewhere, where a copy of a process that has loaded such libraries may hang, it
serves one cell and ends.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import warnings
from contextlib import suppress
from importlib import import_module

import joblib

import fixtures.models
from defenses import DEFENSES
from defenses.process import life
from defenses.process.cell import serve
from defenses.process.wire import Channel

READY = b"r"

LIBRARIES = ("sklearn.cluster", "sklearn.decomposition", "sklearn.metrics", "torch._dynamo")
"""Loaded once for all cells, since each takes a second or more; an optimizer's first use loads the
last of them."""


def main() -> None:
    life.begins()
    life.adopts()
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in LIBRARIES:
        import_module(name)
    joblib.cpu_count(only_physical_cores=True)  # starts a program, and remembers what it said
    DEFENSES.names(), fixtures.models.MODELS.names()  # imports the built-in plugins
    control.sendall(READY)
    while True:
        word, files, _, _ = socket.recv_fds(control, 1, 1)
        if not word:
            return
        if not life.COPIES:
            control.sendall(struct.pack("<i", os.getpid()))
            _serve(files[0])
            return
        with warnings.catch_warnings():  # of BLAS's idle threads, which a copy starts anew
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            control.close()
            life.begins()
            life.ends_with_parent()
            _serve(files[0])
            os._exit(0)
        os.close(files[0])
        control.sendall(struct.pack("<i", child))
        status = life.status_of(child, control)
        life.leaves_nobody()
        control.sendall(struct.pack("<i", status))


def _serve(file: int) -> None:
    serve(Channel(socket.socket(fileno=file), owns=False))


with suppress(ConnectionError):  # the benchmark is no more: nobody is left to tell
    main()
