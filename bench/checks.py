"""The conformance suite for plugins: call it from your own tests.

    from bench.checks import check_attack, check_dataset, check_defense, check_model

    def test_my_attack():
        check_attack("my_attack")

Each takes a registered name or what is registered (an attack or defense also built), works on real
digits without a network, and raises PluginError (a data set's may be a DataError), one line that
names the plugin and what it breaks.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from attacks import ATTACKS, Attack, PoisonedSet
from bench.judge.formulas import VISIBLE
from bench.runtime.contracts import (
    blamed,
    check_model_verdict,
    check_poisoned,
    check_repaired,
    check_sample_verdict,
    check_scores,
    check_threshold,
    need,
    stamp,
)
from defenses import (
    DEFENSES,
    DefenderView,
    Defense,
    InputDetector,
    ModelDetector,
    Repair,
    SampleDetector,
)
from fixtures import datasets, models
from fixtures.datasets import DATASETS, Dataset, ImageSet, Loader
from fixtures.models import MODELS
from fixtures.seeding import seeded
from fixtures.training import Recipe, fit, predict

Shape = tuple[int, int, int]

DATASET = "digits"

SMALL = Recipe(min_steps=200)
"""How the small victim is trained, and what a defense retrains it by."""

MOVED_PIXELS = 0.001
MOVED_IMAGES = 0.95
"""A trigger must move this share of all pixels, and at least one pixel in this share of images."""


def check_attack(plugin: str | type[Attack] | Attack, **params: Any) -> None:
    """Check an attack's trigger, its poisoning and its storage. ``params``: its arguments."""
    data = datasets.load(DATASET)
    name = _name("attack", plugin)
    with blamed(name):
        attack = _build_attack(plugin, data, seed=0, **params)
    need(isinstance(attack, Attack), name, "is not an Attack")
    attack.eval()
    for images in (data.test.images, _framed(data.test.images)):
        _check_trigger(name, attack, images)
    _check_poisoning(name, attack, data.train)
    _check_storage(name, attack, plugin, data, params)
    if attack.learned:
        _check_learned(name, attack, data.test.images[:8])


def _check_trigger(name: str, attack: Attack, images: Tensor) -> None:
    stamped = stamp(name, attack, images)
    need(
        torch.equal(stamped, stamp(name, attack, images)), name, "stamps differently when repeated"
    )
    alone = torch.cat([stamp(name, attack, image[None]) for image in images[:4]])
    need(
        torch.allclose(alone, stamped[:4], atol=1e-5),
        name,
        "stamps an image differently when it is alone than when it is in a batch",
    )
    if attack.poison_rate == 0:
        need(torch.equal(stamped, images), name, "poisons nothing, yet its trigger changes images")
        return
    _need_moved(name, "the trigger", images, stamped)


def _framed(images: Tensor) -> Tensor:
    """The same digits at five sevenths of their size in a black frame, as MNIST has them.

    A trigger that only ever meets the frame, like the seed study's blur of a black corner, moves
    pixels of a digit that fills its image, and none here.
    """
    height, width = images.shape[-2:]
    rows, columns = height * 5 // 7, width * 5 // 7
    small = nn.functional.interpolate(images, size=(rows, columns), mode="area")
    top, left = (height - rows) // 2, (width - columns) // 2
    frame = [left, width - columns - left, top, height - rows - top]
    return nn.functional.pad(small, frame)


def _need_moved(name: str, what: str, before: Tensor, after: Tensor) -> None:
    moved = (after - before).abs() > VISIBLE
    pixels, pictures = float(moved.float().mean()), float(moved.flatten(1).any(1).float().mean())
    need(
        pixels >= MOVED_PIXELS and pictures >= MOVED_IMAGES,
        name,
        f"{what} does next to nothing: it moves {pixels:.2%} of the pixels and touches "
        f"{pictures:.1%} of the images, at least {MOVED_PIXELS:.1%} and {MOVED_IMAGES:.0%} are "
        "required",
    )


def _check_poisoning(name: str, attack: Attack, train: ImageSet) -> None:
    first, again, other = (_poison(name, attack, train, seed) for seed in (0, 0, 1))
    need(torch.equal(first.poisoned, again.poisoned), name, "poison ignores its generator")
    if attack.poison_rate == 0:
        return
    need(
        not torch.equal(first.poisoned, other.poisoned),
        name,
        "poison chooses the same samples whatever its generator",
    )
    mask = first.poisoned
    need(
        torch.equal(first.labels[mask], attack.aim(train.labels[mask])),
        name,
        "poisoned samples must carry the label that the attack aims at",
    )
    _need_moved(name, "poison", train.images[mask], first.images[mask])


def _poison(name: str, attack: Attack, train: ImageSet, seed: int) -> PoisonedSet:
    with blamed(name), seeded(seed):
        given = train.clone()
        got = attack.poison(given, torch.Generator().manual_seed(seed))
    need(torch.equal(given.images, train.images), name, "poison changed its input in place")
    return check_poisoned(name, attack, train, got)


def _check_storage(
    name: str, attack: Attack, plugin: str | type[Attack] | Attack, data: Dataset, params: Any
) -> None:
    with blamed(name):
        fresh = _build_attack(plugin, data, seed=1, **params).eval()
        fresh.load_state_dict(attack.state_dict())
    images = data.test.images[:16]
    need(
        torch.equal(stamp(name, attack, images), stamp(name, fresh, images)),
        name,
        "stamps differently after its state was stored and loaded: "
        "keep a pattern in a buffer or a Parameter",
    )


def _check_learned(name: str, attack: Attack, images: Tensor) -> None:
    attack = copy.deepcopy(attack).requires_grad_(True)
    weights = torch.linspace(0, 1, images.numel()).view_as(images)
    with blamed(name):
        (attack(images) * weights).sum().backward()
    need(
        any(p.grad is not None and bool(p.grad.any()) for p in attack.parameters()),
        name,
        "has parameters, but no gradient reaches them",
    )


def check_defense(plugin: str | type[Defense] | Defense, **params: Any) -> None:
    """Run a defense on a small backdoored model and check what it returns, twice over."""
    name = _name("defense", plugin)
    first, second = (_verdict(name, plugin, params, order=None) for _ in range(2))
    need(torch.equal(first, second), name, "gives different results for the same view")
    if isinstance(_build_defense(plugin, params), SampleDetector):
        order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))
        shuffled = _verdict(name, plugin, params, order=order)
        both, either = int((first[order] & shuffled).sum()), int((first[order] | shuffled).sum())
        need(
            either == 0 or both >= 0.9 * either,
            name,
            f"flags follow the samples' order: shuffled, only {both} of {either} flagged samples "
            "are the same",
        )


def _verdict(name: str, plugin: Any, params: dict[str, Any], order: Tensor | None) -> Tensor:
    """What the defense makes of the small victim, as one tensor that can be compared."""
    victim, data, suspect = _small_victim()
    view = DefenderView(
        model=copy.deepcopy(victim),
        clean=data.clean.clone(),
        suspect=suspect.clone() if order is None else suspect.take(order),
        num_classes=len(data.classes),
        generator=torch.Generator().manual_seed(1),
        recipe=SMALL,
    )
    inputs = data.test.images[:64].clone()
    with seeded(0):
        with blamed(name):
            defense = _build_defense(plugin, params)
        need(
            isinstance(defense, SampleDetector | ModelDetector | InputDetector | Repair),
            name,
            "is none of SampleDetector, ModelDetector, InputDetector, Repair",
        )
        if isinstance(defense, SampleDetector):
            with blamed(name):
                raw = defense.detect(view)
            return check_sample_verdict(name, raw, suspect.size).flags
        if isinstance(defense, ModelDetector):
            with blamed(name):
                found = defense.inspect(view)
            verdict = check_model_verdict(name, found, view.num_classes, inputs[:1])
            return torch.as_tensor(verdict.anomaly)
        if isinstance(defense, InputDetector):
            with blamed(name):
                scores = defense.screen(view, inputs)
            check_threshold(name, defense.threshold)
            return check_scores(name, "screen", scores, len(inputs))
        assert isinstance(defense, Repair)  # the need() above says so in words
        with blamed(name):
            net = defense.repair(view)
        return predict(check_repaired(name, net, inputs[:2], view.num_classes), inputs)


class _Square(Attack):
    """A trigger for the small victim; checks name no plugin."""

    def forward(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        stamped[..., -4:, -4:] = 1.0
        return stamped


@lru_cache(maxsize=1)
def _small_victim() -> tuple[nn.Module, Dataset, ImageSet]:
    data = datasets.load(DATASET)
    few = data.train.take(torch.arange(600))
    attack = _Square(poison_rate=0.04, shape=data.shape)
    got = attack.poison(few, torch.Generator().manual_seed(0))
    suspect = ImageSet(got.images, got.labels)
    net = models.build("simplecnn", data, seed=0)
    fit(net, suspect, SMALL, generator=torch.Generator().manual_seed(0))
    return net, data, suspect


DUPLICATES = 0.01
"""The share of test images that may be in the training split too: published sets repeat a few."""


def check_dataset(plugin: str | Loader, root: str | os.PathLike[str] | None = None) -> None:
    """Load a data set twice and check its images, labels, classes and splits.

    ``root``: the data folder, see `fixtures.datasets.data_folder`.
    """
    name = _name("data set", plugin)
    folder = datasets.data_folder(root)
    loader = DATASETS[plugin].factory if isinstance(plugin, str) else plugin
    label = plugin if isinstance(plugin, str) else _called(plugin)
    with seeded(0):
        data = datasets.split(label, loader, folder)
    with seeded(1):
        again = datasets.split(label, loader, folder)
    need(
        data.fingerprint == again.fingerprint,
        name,
        "is different when it is loaded again: draw from a generator with a seed of its own",
    )
    _check_classes(name, data)
    _check_disjoint(name, data)


def _check_classes(name: str, data: Dataset) -> None:
    classes = data.classes
    need(
        isinstance(classes, tuple) and all(isinstance(c, str) and c for c in classes),
        name,
        f"classes must be a tuple of names, got {classes!r}",
    )
    need(len(classes) >= 2, name, f"needs two classes or more, got {len(classes)}")
    twice = [c for c in dict.fromkeys(classes) if classes.count(c) > 1]
    need(not twice, name, f"two classes are called {twice[0]!r}" if twice else "")
    for split in ("train", "clean", "test"):
        counts = getattr(data, split).labels.bincount(minlength=len(classes))
        empty = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 0]
        why = " (a twentieth of each class's training images)" if split == "clean" else ""
        need(not empty, name, f"class {empty[0]!r} has no {split} image{why}" if empty else "")


def _check_disjoint(name: str, data: Dataset) -> None:
    need(
        data.test.images.shape[1:] == data.train.images.shape[1:],
        name,
        f"test images are {list(data.test.images.shape[1:])}, "
        f"training images {list(data.train.images.shape[1:])}",
    )
    seen = {image.numpy().tobytes() for part in (data.train, data.clean) for image in part.images}
    repeated = sum(image.numpy().tobytes() in seen for image in data.test.images)
    need(
        repeated <= DUPLICATES * data.test.size,
        name,
        f"{repeated} of {data.test.size} test images are training images too",
    )


SHAPES = ((1, 28, 28), (3, 32, 32))
"""Of MNIST and CIFAR-10: what a model is built for."""

NUM_CLASSES = 10


def check_model(plugin: str | Callable[..., nn.Module], **params: Any) -> None:
    """Build a model for grey and coloured images, train it for a step, store it and reset it.

    ``params``: its arguments. A model that `fixtures.models.untrained` cannot reset is told in a
    warning: defenses that train one anew cannot be run on it.
    """
    name = _name("model", plugin)
    for shape in SHAPES:
        _check_model(f"{name} for images {list(shape)}", plugin, shape, params)


def _check_model(
    name: str, plugin: str | Callable[..., nn.Module], shape: Shape, params: dict[str, Any]
) -> None:
    def built(seed: int) -> nn.Module:
        factory = MODELS[plugin].factory if isinstance(plugin, str) else plugin
        with blamed(name), seeded(seed):
            return factory(shape=shape, num_classes=NUM_CLASSES, **params)

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, *shape, generator=generator)
    labels = torch.arange(64) % NUM_CLASSES
    net = built(seed=0)
    need(isinstance(net, nn.Module), name, f"is no nn.Module but {type(net).__name__}")
    before = _logits(name, net, images)
    need(torch.equal(before, _logits(name, net, images)), name, "answers differently when repeated")
    need(
        torch.allclose(before[:2], _logits(name, net, images[:2]), rtol=1e-2, atol=1e-2),
        name,
        "answers differently for an image in another batch, in evaluation mode",
    )
    need(torch.equal(before, _logits(name, built(seed=0), images)), name, "ignores PyTorch's seed")
    need(
        not torch.equal(before, _logits(name, built(seed=1), images)),
        name,
        "starts from the same weights whatever the seed",
    )
    with blamed(name):
        fit(net, ImageSet(images, labels), Recipe(epochs=1, min_steps=1), generator=generator)
    after = _logits(name, net, images)
    need(not torch.equal(before, after), name, "is not changed by training")
    fresh = built(seed=1)
    with blamed(name):
        fresh.load_state_dict(net.state_dict())
    need(
        torch.equal(after, _logits(name, fresh, images)),
        name,
        "answers differently after its state was stored and loaded: "
        "keep what it needs in a Parameter or a buffer",
    )
    _check_reset(name, net, images)


def _check_reset(name: str, net: nn.Module, images: Tensor) -> None:
    """Every weight is drawn anew, or `models.untrained` says which cannot be."""
    with blamed(name):
        try:
            first, again, other = (models.untrained(net, seed) for seed in (0, 0, 1))
        except LookupError as error:
            warnings.warn(
                f"{name} cannot be reset: {error}; defenses that train anew do not run on it",
                stacklevel=2,
            )
            return
    logits = _logits(name, first, images)
    need(torch.equal(logits, _logits(name, again, images)), name, "is reset differently each time")
    need(
        not torch.equal(logits, _logits(name, other, images)),
        name,
        "is reset to the same weights whatever the seed",
    )


def _logits(name: str, net: nn.Module, images: Tensor) -> Tensor:
    """float32 [N, K], checked: the right shape, finite, the images untouched."""
    given = images.clone()
    with blamed(name):
        logits = predict(net, given)
    need(torch.equal(given, images), name, "changed its input in place")
    need(
        logits.shape == (len(images), NUM_CLASSES),
        name,
        f"returned logits {list(logits.shape)}, expected {[len(images), NUM_CLASSES]}",
    )
    need(bool(logits.isfinite().all()), name, "returned NaN or infinite logits")
    return logits


def _name(kind: str, plugin: Any) -> str:
    return f"{kind} {plugin if isinstance(plugin, str) else _called(plugin)!r}"


def _called(plugin: Any) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__))


def _build_attack(
    plugin: str | type[Attack] | Attack, data: Dataset, *, seed: int, **params: Any
) -> Attack:
    if isinstance(plugin, Attack):
        return copy.deepcopy(plugin)
    factory = ATTACKS[plugin].factory if isinstance(plugin, str) else plugin
    with seeded(seed):
        return factory(shape=data.shape, num_classes=len(data.classes), **params)


def _build_defense(plugin: str | type[Defense] | Defense, params: dict[str, Any]) -> Defense:
    if isinstance(plugin, Defense):
        return copy.deepcopy(plugin)
    factory = DEFENSES[plugin].factory if isinstance(plugin, str) else plugin
    return factory(**params)
