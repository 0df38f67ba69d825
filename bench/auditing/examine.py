"""Every detector that applies, run on one network and the images that its owner has."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from bench.auditing.graphs import copied
from bench.auditing.lines import one_line
from bench.runtime import files
from bench.runtime.deadline import CellTimeout, deadline
from bench.runtime.verdicts import check_model_verdict, check_sample_verdict, check_sees
from bench.spec.cell import flavour_of
from bench.spec.identity import source_of
from defenses import DEFENSES, DefenderView, Defense, InputDetector, ModelDetector, SampleDetector
from fixtures.errors import BenchError
from fixtures.images import ImageSet
from fixtures.recipes import Recipe
from fixtures.training import predict

REFUSED = 0.25
"""Share of traffic that is refused, beyond what a threshold aims at on clean images, from which the
traffic counts as triggered."""

FEWEST_CLASSES = 3
"""A model is called backdoored for a class that stands out from the others; of two, each does."""

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Given:
    """What is examined. ``net``: images in [0, 1] -> logits, in evaluation mode, on ``device``.

    ``clean``: images under their right labels. ``suspect``: the training set, ``inputs``: traffic,
    where there is any. ``only``: the detectors that are asked, by default every one. ``limit``:
    seconds that each may take.
    """

    net: nn.Module
    clean: ImageSet
    classes: Sequence[str]
    suspect: ImageSet | None = None
    inputs: ImageSet | None = None
    only: Sequence[str] = ()
    limit: float | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Finding(msgspec.Struct, frozen=True):
    """What one detector says. ``flavour``: what it looks at. ``says``: in words, for people.

    ``backdoored``: its own verdict; None where it could not judge, for ``reason``, which is
    ``certain`` where it follows from the network or the images, not from a failure. ``score``: how
    suspicious. ``suspects``: positions of the accused classes. ``mask`` [1, H, W], ``pattern``
    [C, H, W]: of the first of these, in [0, 1], where a trigger was recovered.
    """

    detector: str
    flavour: str
    backdoored: bool | None
    reason: str = ""
    says: str = ""
    score: float | None = None
    suspects: tuple[int, ...] = ()
    seconds: float = 0.0
    certain: bool = False
    mask: list[list[list[float]]] | None = None
    pattern: list[list[list[float]]] | None = None


def detectors(given: Given) -> list[str]:
    """Those that there is something for; without null baselines, which accuse nobody.

    Raises BenchError where one that was asked for is none of them.
    """
    there = {
        "model": True,
        "samples": given.suspect is not None,
        "inputs": given.inputs is not None,
    }
    names = [
        name
        for name in DEFENSES.names()
        if there.get(flavour_of(name), False) and not DEFENSES[name].info.null
    ]
    unknown = [name for name in given.only if name not in names]
    if unknown:
        raise BenchError(
            f"--detectors: {', '.join(unknown)} cannot be asked here; these can: {', '.join(names)}"
        )
    return [name for name in names if not given.only or name in given.only]


def examine(given: Given, kept: Path | None = None, tell: Tell = lambda _: None) -> list[Finding]:
    """What each detector finds.

    ``kept``: a folder for what was found, so that an audit that was interrupted goes on where it
    was. ``tell``: is told what runs, and how long it may take. A detector that fails is a finding
    that could not judge.
    """
    return list(_each(given, kept, tell))


def _each(given: Given, kept: Path | None, tell: Tell) -> Iterator[Finding]:
    names = detectors(given)
    key = _digest(given) if kept else ""
    began = time.perf_counter()
    for done, name in enumerate(names):
        path = None if kept is None else kept / f"{key}-{name}-{_code(name)}.json"
        found = None if path is None else _read(path)
        if found is None:
            passed = time.perf_counter() - began
            left = f", about {(len(names) - done) * passed / done:.0f} s left" if done else ""
            tell(f"{done + 1} of {len(names)}: {name}{left}")
            found = found_by(name, given)
            if path is not None and (found.backdoored is not None or found.certain):
                files.write(path, msgspec.json.encode(found))
        yield found


def found_by(name: str, given: Given) -> Finding:
    """What one detector finds, with its seconds."""
    sees = check_sees(f"defense {name!r}", DEFENSES[name].factory)
    view, flavour = view_of(given, sees), flavour_of(name)
    began = time.perf_counter()
    try:
        detector: Defense = DEFENSES.create(name)
        with deadline(given.limit):
            found = _found(name, detector, view, given.inputs)
    except CellTimeout:
        return Finding(name, flavour, None, f"it took longer than {given.limit:g} s")
    except Exception as error:  # a stranger's graph may lack whatever a detector needs
        if not _gives_gradients(given):
            return Finding(name, flavour, None, "the graph gives no gradients")
        return Finding(name, flavour, None, f"{type(error).__name__}: {one_line(error)}")
    return msgspec.structs.replace(found, seconds=time.perf_counter() - began)


def _found(name: str, detector: Defense, view: DefenderView, inputs: ImageSet | None) -> Finding:
    reason = detector.supports(view)
    if reason is not None:
        return Finding(name, flavour_of(name), None, reason, certain=True)
    if isinstance(detector, ModelDetector):
        if view.num_classes < FEWEST_CLASSES:
            few = f"{view.num_classes} classes are too few to compare one with the others"
            return Finding(name, "model", None, few, certain=True)
        return _of_model(name, detector, view)
    if isinstance(detector, SampleDetector):
        return _of_samples(name, detector, view)
    assert isinstance(detector, InputDetector)
    assert inputs is not None
    return _of_inputs(name, detector, view, inputs)


def view_of(given: Given, sees: Set[str], recipe: Recipe = Recipe()) -> DefenderView:  # noqa: B008
    """What a defense is given, with a copy of the network. ``recipe``: how it goes on training."""
    return DefenderView(
        model=copied(given.net).eval() if "model" in sees else None,
        clean=given.clean if "clean" in sees else None,
        suspect=given.suspect if "suspect" in sees else None,
        shape=given.clean.shape,
        num_classes=len(given.classes),
        device=given.device,
        generator=torch.Generator().manual_seed(0),
        recipe=recipe,
    )


def _of_model(name: str, detector: ModelDetector, view: DefenderView) -> Finding:
    verdict = check_model_verdict(
        f"defense {name!r}", detector.inspect(view), view.num_classes, view.shape
    )
    mask = pattern = None
    if verdict.suspects and verdict.masks is not None and verdict.patterns is not None:
        mask = verdict.masks[verdict.suspects[0]].tolist()
        pattern = verdict.patterns[verdict.suspects[0]].tolist()
    return Finding(
        name,
        "model",
        bool(verdict.backdoored),
        score=verdict.score,
        suspects=tuple(int(label) for label in verdict.suspects),
        mask=mask,
        pattern=pattern,
    )


def _of_samples(name: str, detector: SampleDetector, view: DefenderView) -> Finding:
    plugin, found = f"defense {name!r}", detector.detect(view)
    flags = check_sample_verdict(plugin, found, len(view.suspect)).flags
    return Finding(
        name,
        "samples",
        None,
        "",
        certain=True,
        says=f"{int(flags.sum())} of {len(flags)} training samples are flagged",
        score=float(flags.double().mean()),
        suspects=tuple(view.suspect.labels[flags].unique().tolist()),
    )


def _of_inputs(name: str, detector: InputDetector, view: DefenderView, inputs: ImageSet) -> Finding:
    detector.calibrate(view)
    if detector.threshold is None:
        return Finding(name, "inputs", None, "it sets no threshold")
    scores = torch.cat([detector.screen(images) for _, images in inputs.batches(64)])
    refused = float((scores > detector.threshold).double().mean())
    aimed = detector.aimed_fpr or 0.0
    return Finding(
        name,
        "inputs",
        refused > aimed + REFUSED,
        says=f"{100 * refused:.1f} % of {len(scores)} inputs are refused; of clean ones it aims "
        f"at {100 * aimed:.0f} %",
        score=refused,
    )


def _gives_gradients(given: Given) -> bool:
    images = given.clean.batch(torch.arange(2)).to(given.device).requires_grad_()
    try:
        torch.autograd.grad(given.net(images).float().sum(), images)
    except Exception:  # of a frozen or quantised graph
        return False
    return True


def _digest(given: Given) -> str:
    """Of the network, by its tensors and what it answers, and of all images."""
    found = hashlib.blake2b(digest_size=10)
    parts: list[Tensor] = [*given.net.state_dict().values(), predict(given.net, given.clean)]
    for images in (given.clean, given.suspect, given.inputs):
        if images is not None:
            parts += [images.digests(), images.labels]
    for part in parts:
        found.update(repr((part.dtype, tuple(part.shape))).encode())
        found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _code(name: str) -> str:
    return source_of(DEFENSES[name].factory)[:8]


def _read(path: Path) -> Finding | None:
    """A finding that was kept; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Finding)
    except (OSError, msgspec.MsgspecError):
        return None
