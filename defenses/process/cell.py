"""Answers what the benchmark asks of one defense on one view, until the connection closes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from defenses.base import (
    Certificate,
    Defense,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    Repair,
    SampleDetector,
    SampleVerdict,
    Training,
)
from defenses.handed import opened
from defenses.process import networks
from defenses.process.guard import Guard
from defenses.process.messages import Asked, Opening, Said
from defenses.process.opened import confined, factories, handed_over, registered, seed
from defenses.process.seeing import seeing, unsupported
from defenses.process.wire import Channel, Gone
from fixtures import errors
from fixtures.blame import blamed, need
from fixtures.errors import BenchError, NotApplicable, PluginError

Answer = tuple[Any, dict[str, Tensor]]
"""Plain JSON values, and tensors by name."""


def serve(channel: Channel) -> None:
    """Open what the first message hands over, and answer the others."""
    try:
        opening, tensors, files = channel.receive(Opening)
        guard = Guard(opening.readable, opening.listed, dict(opening.hidden), opening.scratch)
        cell: Cell | None = None

        def first() -> Answer:
            nonlocal cell
            cell = Cell(opening, tensors, files, guard)
            return None, {}

        _answer(channel, opening, guard, first)
        while cell is not None:
            asked, given, _ = channel.receive(Asked)
            _answer(channel, opening, guard, partial(cell.answers, asked, given))
    except Gone:
        return


BY_VALUE = "<dynamic-code>"
"""The file of a function that came by value, as cloudpickle names it."""


def _answer(channel: Channel, opening: Opening, guard: Guard, what: Callable[[], Answer]) -> None:
    plugin = opening.plugin
    said, tensors = Said(), dict[str, Tensor]()
    try:
        said.value, tensors = what()
    except NotApplicable as error:  # once it runs it has a result or it fails
        told = str(error).removeprefix(f"{plugin}: ")
        said.error = f"{plugin}: not applicable, which only supports may say: {told}"
        said.kind = PluginError.__name__
    except BenchError as error:
        said.error, said.kind = str(error), _kind(error)
    except MemoryError:
        said.error, said.kind = f"{plugin}: ran out of memory", PluginError.__name__
    except BaseException as error:  # SystemExit, say: the benchmark decides when a cell ends
        said.error = f"{plugin}: raised {type(error).__name__}: {error}".rstrip(": ")
        said.kind = PluginError.__name__
    if guard.breaches:  # also where the defense has caught the error
        said = Said(error=f"{plugin}: {guard.breaches[0]}", kind=PluginError.__name__)
        tensors = {}
    said.error = said.error.partition("\n")[0].replace(BY_VALUE, opening.source)
    said.named = list(tensors)
    if torch.cuda.is_initialized():
        said.gpu_mib = torch.cuda.max_memory_allocated() / 2**20
    channel.send(said, [*tensors.values()])


def _kind(error: BenchError) -> str:
    known = [kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__)]
    return known[0]


class Cell:
    """A defense on the view that it was handed."""

    def __init__(
        self, opening: Opening, tensors: list[Tensor], files: list[int], guard: Guard
    ) -> None:
        torch.set_num_threads(opening.threads)
        self.plugin = opening.plugin
        self.handed = handed_over(opening, tensors, files)
        with blamed(self.plugin):
            confined(opening, files, guard)
            defense, model = factories(opening)
            registered(opening, defense, model)
            self.view = opened(self.handed)
            seed(opening.seed)
            self.defense: Defense = defense(**opening.params)
        self.nets: list[nn.Module] = []
        self._steps: Iterator[tuple[int, nn.Module]] | None = None

    def answers(self, asked: Asked, given: list[Tensor]) -> Answer:
        answer: Callable[[Asked, list[Tensor]], Answer] = getattr(self, f"_{asked.question}")
        if self.view.device.type == "cuda" and torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats(self.view.device)
        return answer(asked, given)

    def _verdict(self, kind: type[Any], method: str, expected: type[Any]) -> Any:
        """As `_kind`; what the method returns is of the ``expected`` type."""
        verdict = self._kind(kind, method)
        said = f"{method} returned {type(verdict).__name__}"
        need(isinstance(verdict, expected), self.plugin, said)
        return verdict

    def _kind(self, kind: type[Any], method: str) -> Any:
        """What a method of the defense returns; its ``kind`` is checked before it is asked."""
        need(isinstance(self.defense, kind), self.plugin, f"is no {kind.__name__}")
        with seeing(self.plugin, self.view):
            return getattr(self.defense, method)(self.view)

    def _supports(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        reason = unsupported(self.plugin, self.defense, self.view)
        seed(self.handed.seed)  # whatever it drew from the global generators
        return reason, {}

    def _detect(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        verdict = self._verdict(SampleDetector, "detect", SampleVerdict)
        with blamed(self.plugin):
            return None, {name: torch.as_tensor(part) for name, part in verdict._asdict().items()}

    def _inspect(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        verdict = self._verdict(ModelDetector, "inspect", ModelVerdict)
        with blamed(self.plugin):
            value = {
                "backdoored": bool(verdict.backdoored),
                "suspects": [int(label) for label in verdict.suspects],
                "score": None if verdict.score is None else float(verdict.score),
            }
            parts = {"anomaly": torch.as_tensor(verdict.anomaly)}
            for name in ("masks", "patterns"):
                if getattr(verdict, name) is not None:
                    parts[name] = torch.as_tensor(getattr(verdict, name))
        return value, parts

    def _calibrate(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        self._kind(InputDetector, "calibrate")
        assert isinstance(self.defense, InputDetector)
        with blamed(f"{self.plugin}, its threshold"):
            return [
                None if value is None else float(value)
                for value in (self.defense.threshold, self.defense.aimed_fpr)
            ], {}

    def _screen(self, _asked: Asked, given: list[Tensor]) -> Answer:
        need(isinstance(self.defense, InputDetector), self.plugin, "is no InputDetector")
        assert isinstance(self.defense, InputDetector)
        with seeing(self.plugin, self.view), torch.no_grad():
            return None, {"scores": torch.as_tensor(self.defense.screen(given[0]))}

    def _make(self, asked: Asked, _given: list[Tensor]) -> Answer:
        kind = Repair if asked.method == "repair" else Training
        return self._kept(asked.method, self._kind(kind, asked.method))

    def _step(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        """The next network that a repair went through; no value where there is none."""
        assert isinstance(self.defense, Repair)
        with blamed(self.plugin):
            self._steps = self._steps or iter(self.defense.trajectory())
            step = next(self._steps, None)
        if step is None:
            return None, {}
        value, tensors = self._kept("trajectory", step[1])
        return {**value, "at": int(step[0]), "label": self.defense.trajectory_label}, tensors

    def _kept(self, method: str, net: nn.Module) -> Answer:
        """Its weights where they are all there is to it; else it stays, under a number."""
        networks.check(self.plugin, method, net, self.view.device)
        with blamed(self.plugin):
            weights = networks.weights_of(net, self.handed)
        if weights is not None and not hasattr(net, "certify"):
            return {"stays": None, "name": type(net).__name__}, weights
        self.nets.append(net)
        return {"stays": len(self.nets) - 1, "name": type(net).__name__}, {}

    def _logits(self, asked: Asked, given: list[Tensor]) -> Answer:
        net = self.nets[asked.network].eval()
        with seeing(self.plugin, self.view):
            return None, {"logits": networks.logits(net, given[0], self.view.device)}

    def _certify(self, asked: Asked, given: list[Tensor]) -> Answer:
        method = networks.certifier(self.plugin, self.nets[asked.network].eval())
        with seeing(self.plugin, self.view):
            found = networks.certify(method, given[0], self.view.device)
        need(
            isinstance(found, Certificate),
            self.plugin,
            f"certify returned {type(found).__name__}, expected Certificate",
        )
        with blamed(self.plugin):
            value = {"unit": str(found.unit), "alpha": float(found.alpha)}
            return value, {"labels": torch.as_tensor(found.labels),
                           "radius": torch.as_tensor(found.radius)}  # fmt: skip

    def _report(self, _asked: Asked, _given: list[Tensor]) -> Answer:
        with blamed(f"{self.plugin}, its report"):
            return json.loads(json.dumps(self.defense.report, allow_nan=False)), {}
