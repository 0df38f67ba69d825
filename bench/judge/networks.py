"""Measures a network on clean and triggered test images, shuffled and mixed."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from bench.judge import formulas
from bench.judge.common import every_trigger
from bench.judge.mixed import Mixed, every, without_twins
from bench.victims import Victim
from fixtures.training import predict

SHOWN = 1000
"""Inputs that are read at a time."""

ANSWERED = 250
"""Inputs that a network which stays with its defender is asked about at a time."""

ALONE = 200
"""Of those, inputs that it is asked about once more, each alone."""


@lru_cache(maxsize=1)
def as_received(victim: Victim) -> dict[str, float]:
    """The victim's own figures, which every repair starts from; see `measure`."""
    return measure(victim.model, victim)


def asr_before(victim: Victim) -> dict[str, float]:
    """Whether there is a backdoor to be found; of a clean model nothing."""
    return {"asr_before": as_received(victim)["asr"]} if victim.attack.backdoors else {}


def measure(
    net: nn.Module, victim: Victim, some: Tensor | None = None, *, once: bool = False
) -> dict[str, float]:
    """Clean accuracy, ASR and RA of a network under the victim's attack, over all its triggers.

    ``some``: positions int64 of the test images that it is measured on, by default all. ``once``:
    every image is shown once, clean or triggered, as to a network in its defender's process, which
    could know a triggered image by its clean twin.
    """
    chosen = torch.arange(len(victim.dataset.test)) if some is None else some
    inputs = (without_twins if once else every)(victim, chosen)
    predicted = torch.empty(len(inputs), dtype=torch.int64)
    for places in inputs.batches(ANSWERED if once else SHOWN):
        predicted[places] = predict(net, inputs.read(places)).argmax(1)
    true = victim.dataset.test.labels[inputs.positions]
    clean = ~inputs.triggered
    found = {"clean_accuracy": formulas.accuracy(predicted[clean], true[clean])}
    if bool(inputs.triggered.any()):
        wanted = _wanted(victim, inputs)
        everyone = torch.ones(int(inputs.triggered.sum()), dtype=torch.bool)
        answers, labels = predicted[inputs.triggered], true[inputs.triggered]
        found["asr"] = formulas.asr(answers, wanted, everyone)
        found["ra"] = formulas.robust_accuracy(answers, labels, everyone)
    return found


def _wanted(victim: Victim, inputs: Mixed) -> Tensor:
    """The class that the attacker wants of each triggered input: int64."""
    aims = torch.stack([torch.zeros_like(victim.dataset.test.labels),
                        *(one.aims for one in every_trigger(victim))])  # fmt: skip
    at = inputs.triggered
    return aims[inputs.sources[at], inputs.positions[at]]


def company(net: nn.Module, victim: Victim) -> float:
    """The share of answers to `ALONE` inputs that are others when nothing else is in the batch."""
    inputs = without_twins(victim, torch.arange(len(victim.dataset.test)))
    some = inputs.order[:ALONE]
    together = predict(net, inputs.read(some)).argmax(1)
    alone = torch.cat([predict(net, inputs.read(place[None])).argmax(1) for place in some])
    return formulas.share(alone != together)
