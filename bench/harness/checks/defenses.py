"""What every defense must keep to: it runs on a view, returns what its kind does, and repeats."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from bench.harness.checks.common import named
from bench.harness.checks.small_victims import SmallVictim, small_victims
from bench.judge.certified import certified
from bench.runtime.verdicts import (
    check_certificate,
    check_model_verdict,
    check_network,
    check_sample_verdict,
    check_scores,
    check_sees,
    check_threshold,
)
from bench.spec import grids
from bench.spec.cell import FLAVOURS
from defenses import (
    DEFENSES,
    Certificate,
    Certified,
    DefenderView,
    Defense,
    InputDetector,
    ModelDetector,
    Repair,
    SampleDetector,
    Training,
)
from defenses.process import networks
from defenses.process.seeing import seeing, unsupported
from fixtures.blame import blamed, need
from fixtures.images import ImageSet
from fixtures.seeding import seeded
from fixtures.training import predict

Plugin = str | type[Defense] | Defense
"""A registered name, a class, or a defense that is built."""


def check_defense(plugin: Plugin, **params: Any) -> None:
    """Run a defense on small backdoored models and check what it returns, twice over.

    ``params``: its arguments. The models are SimpleCNNs: one on real digits, others, trained for a
    few steps, on made-up images in grey and colour, of three sizes, of ten and 43 classes. Those
    that it does not support are told in a warning with its reason, and not run. Raises PluginError,
    one line.
    """
    if isinstance(plugin, str):
        grids.declared(plugin)
    reasons: dict[str, int] = {}
    victims = small_victims()
    for victim in victims:
        reason = _check_on(named("defense", plugin) + victim.where, plugin, victim, params)
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        warnings.warn(
            f"{named('defense', plugin)} does not apply to {count} of {len(victims)} small "
            f"victims: {reason}",
            stacklevel=2,
        )


def _check_on(name: str, plugin: Plugin, victim: SmallVictim, params: dict[str, Any]) -> str | None:
    """Why the defense does not apply to this victim; None where it does and does as it must."""
    reason = _unsupported(name, plugin, victim, params)
    if reason is not None:
        return reason
    first, second = (_said(name, plugin, victim, params) for _ in range(2))
    need(torch.equal(first, second), name, "gives different results for the same view")
    if isinstance(_build(name, plugin, params), SampleDetector) and not victim.where:
        order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))
        shuffled = _said(name, plugin, victim, params, order)
        both, either = int((first[order] & shuffled).sum()), int((first[order] | shuffled).sum())
        need(
            either == 0 or both >= 0.9 * either,
            name,
            f"flags follow the samples' order: shuffled, only {both} of {either} flagged samples "
            "are the same",
        )
    return None


def _unsupported(
    name: str, plugin: Plugin, victim: SmallVictim, params: dict[str, Any]
) -> str | None:
    """What `supports` says; checks the kind, and that asking draws nothing from the view."""
    with seeded(0):
        defense = _build(name, plugin, params)
        need(
            isinstance(defense, tuple(FLAVOURS)),
            name,
            f"is none of {', '.join(kind.__name__ for kind in FLAVOURS)}",
        )
        view = victim.view(check_sees(name, defense))
        before = view.generator.get_state()
        reason = unsupported(name, defense, view)
    need(
        torch.equal(before, view.generator.get_state()),
        name,
        "supports draws from the view's generator: what runs after it would differ",
    )
    return reason


def _said(
    name: str,
    plugin: Plugin,
    victim: SmallVictim,
    params: dict[str, Any],
    order: Tensor | None = None,
) -> Tensor:
    """What the defense makes of the victim, as one tensor that can be compared."""
    with seeded(0):
        defense = _build(name, plugin, params)
        view = victim.view(defense.sees, order)
        if isinstance(defense, SampleDetector):
            with seeing(name, view):
                raw = defense.detect(view)
            return check_sample_verdict(name, raw, len(victim.suspect)).flags
        if isinstance(defense, ModelDetector):
            with seeing(name, view):
                found = defense.inspect(view)
            verdict = check_model_verdict(name, found, view.num_classes, view.shape)
            return torch.as_tensor(verdict.anomaly)
        if isinstance(defense, InputDetector):
            return _screened(name, defense, view, victim.inputs)
        assert isinstance(defense, Repair | Training)  # `_unsupported` has checked the kind
        return _answers(name, defense, view, victim.inputs)


def _screened(name: str, defense: InputDetector, view: DefenderView, inputs: ImageSet) -> Tensor:
    """Its scores of batches of several sizes; the last that a detector is given may be of one."""
    with seeing(name, view):
        defense.calibrate(view)
    check_threshold(name, defense.threshold)
    scores = []
    places = torch.arange(len(inputs))
    for index in (*places[:-1].split(32), places[-1:]):
        images = inputs.batch(index)
        given = images.clone()
        with seeing(name, view), torch.no_grad():
            raw = defense.screen(given)
        need(torch.equal(given, images), name, "screen changed its input in place")
        scores.append(check_scores(name, "screen", raw, len(images)))
    return torch.cat(scores)


def _answers(name: str, defense: Repair | Training, view: DefenderView, inputs: ImageSet) -> Tensor:
    """Logits of the network that it makes; and what that certifies, where it is to."""
    method = "repair" if isinstance(defense, Repair) else "train"
    with seeing(name, view):
        net = getattr(defense, method)(view)
    images = inputs.batch(torch.arange(len(inputs)))
    check_network(name, method, net, images[:2], view.num_classes)
    with blamed(name):
        logits = predict(net, inputs)
    if not isinstance(defense, Certified):
        return logits

    proves = networks.certifier(name, net)

    def certify(images: Tensor) -> Certificate:
        with seeing(name, view):
            raw = networks.certify(proves, images, view.device)
        return check_certificate(name, raw, len(images), view.num_classes)

    found = certified(name, certify, net, inputs)
    return torch.cat([logits, found.labels[:, None], found.radius[:, None]], dim=1)


def _build(name: str, plugin: Plugin, params: dict[str, Any]) -> Defense:
    if isinstance(plugin, Defense):
        return copy.deepcopy(plugin)
    factory = DEFENSES[plugin].factory if isinstance(plugin, str) else plugin
    with blamed(name):
        return factory(**params)
