"""``-p vandals``: defenses that break what they run in. Each is one line, and the run goes on."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from defenses import Repair, SampleDetector, SampleVerdict, defense
from fixtures.errors import NotApplicable


class Vandal(SampleDetector):
    """Does something that it should not, and then finds nothing."""

    def harm(self, view):
        raise NotImplementedError

    def detect(self, view):
        self.harm(view)
        flags = torch.zeros(len(view.suspect), dtype=torch.bool)
        return SampleVerdict(flags.double(), flags)


@defense("forks")
class Forks(Vandal):
    def harm(self, view):
        if os.fork() == 0:
            os._exit(0)


@defense("starts_a_program")
class StartsAProgram(Vandal):
    def harm(self, view):
        subprocess.run(["true"], check=True)


@defense("opens_a_socket")
class OpensASocket(Vandal):
    def harm(self, view):
        socket.create_connection(("127.0.0.1", 80), timeout=1)


@defense("writes")
class Writes(Vandal):
    def __init__(self, path: str = "") -> None:
        self.path = path

    def harm(self, view):
        Path(self.path).write_text("was here")


@defense("writes_quietly")
class WritesQuietly(Writes):
    def harm(self, view):
        with suppress(Exception):
            super().harm(view)


@defense("fills_memory")
class FillsMemory(Vandal):
    def harm(self, view):
        kept = []
        while True:
            kept.append(torch.ones(1 << 22))


@defense("leaves")
class Leaves(Vandal):
    def harm(self, view):
        os._exit(3)


@defense("exits")
class Exits(Vandal):
    def harm(self, view):
        sys.exit("enough")


@defense("crashes")
class Crashes(Vandal):
    def harm(self, view):
        ctypes.string_at(0)


@defense("never_returns")
class NeverReturns(Vandal):
    """Waits in compiled code, which no signal handler of Python's interrupts."""

    def harm(self, view):
        libc = ctypes.PyDLL(None)
        while True:
            libc.pause()


@defense("signals")
class Signals(Vandal):
    def harm(self, view):
        os.kill(os.getppid(), 9)


@defense("bows_out")
class BowsOut(Vandal):
    """Finds that it does not apply once it has seen what there is to do."""

    def harm(self, view):
        raise NotApplicable("not today")


@defense("hangs_up")
class HangsUp(Vandal):
    """Closes every connection and stays."""

    def harm(self, view):
        os.closerange(3, 200)
        time.sleep(3600)


@defense("leaves_a_child")
class LeavesAChild(Vandal):
    """Starts a process by compiled code, which no audit event tells of."""

    def harm(self, view):
        if ctypes.CDLL(None).fork() == 0:
            ctypes.CDLL(None).sleep(3600)


@defense("tidies_up")
class TidiesUp(Vandal):
    """Does what a defense may: temporary files, folders that are there, plotting."""

    def harm(self, view):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "notes").write_text("mine")
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - as libraries do
        os.makedirs("/tmp", exist_ok=True)  # noqa: PTH103
        ctypes.util.find_library("z")


@defense("rolls_dice")
class RollsDice(SampleDetector):
    """Its scores are of no seed."""

    def detect(self, view):
        scores = torch.frombuffer(bytearray(os.urandom(2 * len(view.suspect))), dtype=torch.int16)
        return SampleVerdict(scores.double(), scores > 0)


@defense("returns_a_lambda")
class ReturnsALambda(Repair):
    def repair(self, view):
        return lambda images: view.model(images)


@defense("returns_elsewhere")
class ReturnsElsewhere(Repair):
    def repair(self, view):
        return view.model.to("meta")


class Calm(nn.Module):
    """A class that the benchmark does not know: the victim with its logits halved."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images) / 2


@defense("wraps")
class Wraps(Repair):
    def repair(self, view):
        return Calm(view.model)


@defense("hooks_in")
class HooksIn(Repair):
    """The victim's own class, with what its weights do not hold."""

    def repair(self, view):
        view.model.register_forward_hook(lambda _net, _images, logits: logits.roll(1, 1))
        return view.model


@defense("hooks_in_on_dark_images")
class HooksInOnDarkImages(Repair):
    """Silent on random images, which are brighter than what it will be shown."""

    def repair(self, view):
        def rolled(_net, given, logits):
            return logits.roll(1, 1) if given[0].mean() < 0.45 else logits

        view.model.register_forward_hook(rolled)
        return view.model


@defense("calls_forward_its_own")
class CallsForwardItsOwn(Repair):
    def repair(self, view):
        old = view.model.forward
        view.model.forward = lambda images: old(images).roll(1, 1)
        return view.model
