"""A defense at work in a process of its own; only its answers, checked, come back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from bench.judge.opening import given_files, given_tensors, opening_of
from bench.runtime.child import Child, server
from bench.runtime.verdicts import (
    check_certificate,
    check_logits,
    check_model_verdict,
    check_network,
    check_sample_verdict,
    check_scores,
    check_threshold,
)
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from defenses import Certificate, ModelVerdict, SampleVerdict
from defenses.handed import Handed
from defenses.process.messages import Asked, Question
from fixtures.blame import blamed, need


@dataclass(frozen=True, eq=False)
class Made:
    """A network that a defense made. ``stays``: whether it answers from the defender's process."""

    net: nn.Module
    stays: bool


class Defender:
    """One defense on what it is handed of a victim, in a process that ends with the block.

    Raises PluginError, one line that names the plugin, for whatever the defense does wrong.
    """

    def __init__(self, plugin: str, cell: Cell, handed: Handed, workspace: Workspace) -> None:
        self.plugin = plugin
        self.handed = handed
        self._cell, self._workspace = cell, workspace
        self._child: Child | None = None
        self._method = ""
        self._report: dict[str, Any] | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="triggerbench-")

    def __enter__(self) -> Defender:
        self._child = server().child()
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if self._child is not None:
                self._child.close()
        finally:
            self._scratch.cleanup()

    def again(self) -> Defender:
        """The same defense on the same view in another process; this one's ends with its report."""
        self.report()
        self.__exit__(None, None, None)
        return Defender(self.plugin, self._cell, self.handed, self._workspace)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def gpu_mib(self) -> float:
        """The most that the defense has held on its GPU in its last answer."""
        assert self._child is not None
        return self._child.gpu_mib

    def supports(self) -> str | None:
        """Why the defense does not apply to its view; None where it does."""
        reason, _ = self._ask("supports")
        return None if reason is None else str(reason)

    def detect(self) -> SampleVerdict:
        """Scores float64 [N] and flags bool [N] of the suspect samples, on the CPU."""
        assert self.handed.suspect is not None
        _, found = self._ask("detect")
        with blamed(self.plugin):
            verdict = SampleVerdict(**found)
        return check_sample_verdict(self.plugin, verdict, len(self.handed.suspect.labels))

    def inspect(self) -> ModelVerdict:
        """A verdict with its ``score``, the largest anomaly where the defense gives none."""
        value, found = self._ask("inspect")
        with blamed(self.plugin):
            told = ModelVerdict(
                anomaly=found["anomaly"],
                backdoored=bool(value["backdoored"]),
                suspects=tuple(int(label) for label in value["suspects"]),
                masks=found.get("masks"),
                patterns=found.get("patterns"),
                score=value["score"],
            )
        return check_model_verdict(self.plugin, told, self.handed.num_classes, self.handed.shape)

    def calibrate(self) -> tuple[float | None, float | None]:
        """The threshold, and the FPR that it aims at; None for what there is not."""
        value, _ = self._ask("calibrate")
        with blamed(self.plugin):
            threshold, aimed = value
            aimed = None if aimed is None else float(aimed)
        return check_threshold(self.plugin, threshold), aimed

    def screen(self, images: Tensor) -> Tensor:
        """Scores float64 [B] of images float32 [B, C, H, W]."""
        _, found = self._ask("screen", tensors=[images])
        return check_scores(self.plugin, "screen", found.get("scores"), len(images))

    def make(self, method: str) -> Made:
        """The network that ``repair`` or ``train`` returns."""
        value, weights = self._ask("make", method=method)
        return self._made(method, value, weights)

    def steps(self) -> Iterator[tuple[int, str, Made]]:
        """The networks that a repair went through: position, what it counts, network."""
        while True:
            value, weights = self._ask("step")
            if value is None:
                return
            yield int(value["at"]), str(value["label"]), self._made("trajectory", value, weights)

    def logits(self, images: Tensor, network: int) -> Tensor:
        """What a network that stays says of images float32 [B, C, H, W]: float32 [B, K]."""
        _, found = self._ask("logits", tensors=[images], network=network)
        logits = found.get("logits")
        whose = f"{self._method}'s"
        return check_logits(self.plugin, whose, logits, len(images), self.handed.num_classes)

    def certify(self, images: Tensor) -> Certificate:
        """What the network that ``train`` returned certifies of images."""
        value, found = self._ask("certify", tensors=[images])
        with blamed(self.plugin):
            told = Certificate(found["labels"], found["radius"], value["unit"], value["alpha"])
        return check_certificate(self.plugin, told, len(images), self.handed.num_classes)

    def report(self) -> dict[str, Any]:
        """What the defense wants kept in the record: plain JSON values."""
        if self._report is None:
            value, _ = self._ask("report")
            need(isinstance(value, dict), self.plugin, f"its report is {type(value).__name__}")
            self._report = dict(value)
        return self._report

    def _ask(
        self,
        question: Question,
        *,
        method: str = "",
        tensors: list[Tensor] | None = None,
        network: int = 0,
    ) -> tuple[Any, dict[str, Tensor]]:
        assert self._child is not None
        return self._child.ask(self.plugin, Asked(question, method, network), tensors or [])

    def _made(self, method: str, value: Any, weights: dict[str, Tensor]) -> Made:
        self._method = method
        with blamed(self.plugin):
            stays = value["stays"]
            net = (
                self.handed.with_weights(weights)
                if stays is None
                else Remote(self, int(stays), str(value["name"]))
            )
        sample = torch.rand(2, *self.handed.shape, generator=torch.Generator().manual_seed(0))
        check_network(self.plugin, method, net, sample, self.handed.num_classes)
        return Made(net, stays is not None)

    def _open(self) -> None:
        assert self._child is not None
        opening = opening_of(
            self.plugin, self._cell, self.handed, self._workspace, self._scratch.name
        )
        with given_files(self.handed) as files:
            self._child.ask(self.plugin, opening, given_tensors(self.handed), files)


class Remote(nn.Module):
    """A network that answers from the defender's process: a wrapper, an ensemble."""

    def __init__(self, defender: Defender, number: int, name: str) -> None:
        super().__init__()
        self._defender = defender
        self.number = number
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        return self._defender.logits(images.cpu(), self.number)
