"""How long until there is a victim that a benchmark would accept? Ours, and two rivals' loops."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from attacks import ATTACKS
from bench.judge import formulas
from bench.speed.clock import interleaved, table
from bench.victims.poison import planned, stamped
from fixtures import datasets, models, training
from fixtures.datasets import ImageSet
from fixtures.errors import TrainingError
from fixtures.recipes import Recipe
from fixtures.training import fit, predict

GRADE = {"clean_accuracy": 0.985, "asr": 0.99}
BATCH = 128
MOST_EPOCHS = 8

Epoch = Callable[[], None]
Result = tuple[float, int]
"""Seconds of training, and epochs."""


def measure(data: Path | None, repeats: int) -> list[str]:
    """Every contestant trains in a process of its own: none lives on another's settings."""
    contestants: dict[str, tuple[Callable[..., Result], Any]] = {
        "ours, as few epochs as the grade takes": (_ours, 1),
        "ours, as the suite trains its victims": (_ours, Recipe().passes(54_000)),
        "torchvision and a DataLoader": (_rival, with_dataloader),
    }
    without = "ART is left out: `pip install -e '.[speed]'` brings it."
    if find_spec("art") is not None:
        without = ""
        contestants["ART's PyTorchClassifier.fit"] = (_rival, with_art)

    def alone(function: Callable[..., Result], how: Any) -> Callable[[int], Result]:
        def run(seed: int) -> Result:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                return pool.submit(function, how, seed, data).result()

        return run

    found = interleaved({name: alone(*how) for name, how in contestants.items()}, repeats)[1]
    best = median(seconds for seconds, _ in next(iter(found.values())))
    rows = [
        {
            "trained by": name,
            "seconds": f"{(middle := median(s for s, _ in some)):.1f} "
            f"({min(some)[0]:.1f} to {max(some)[0]:.1f})",
            "epochs": ", ".join(str(epochs) for _, epochs in some),
            "seconds an epoch": f"{median(s / epochs for s, epochs in some):.1f}",
            "times the first": f"{middle / best:.1f}",
        }
        for name, some in found.items()
    ]
    return [
        "MNIST, SimpleCNN, pixel at 3 %, one seed a round. The grade is a clean accuracy of at "
        f"least {GRADE['clean_accuracy']:.1%} and an ASR of at least {GRADE['asr']:.0%}, checked "
        f"after every epoch; neither that nor reading the data is timed. Batches of {BATCH}; the "
        "rivals use Adam at its default 1e-3.",
        "",
        *table(rows),
        "",
        without,
    ]


class _Task:
    """The poisoned training set, and whether a network has reached the grade."""

    def __init__(self, data: Path | None) -> None:
        self._set = datasets.load("mnist", data)
        self._attack = ATTACKS.create("pixel", shape=self._set.shape)
        train = self._set.train
        plan = planned("pixel", self._attack, train, seed=0)
        self.train = stamped("pixel", self._attack, train, plan, seed=0).onto(train)

    def network(self, seed: int) -> nn.Module:
        return models.build("simplecnn", self._set, seed=seed)

    def reached(self, net: nn.Module) -> bool:
        test, aims = self._set.test, self._attack.aim(self._set.test.labels)
        clean = predict(net, test).argmax(1)
        stamped = predict(net, self._attack(test.images)).argmax(1)
        net.to(memory_format=torch.contiguous_format)  # as a rival's own loop left it
        return (
            formulas.accuracy(clean, test.labels) >= GRADE["clean_accuracy"]
            and formulas.asr(stamped, aims, test.labels != aims) >= GRADE["asr"]
        )


def _ours(fewest: int, seed: int, data: Path | None) -> Result:
    task = _Task(data)
    for epochs in range(fewest, MOST_EPOCHS + 1):  # a cycle of learning rates knows its end
        net, began = task.network(seed), time.perf_counter()
        recipe = Recipe(epochs=epochs, min_steps=1, batch_size=BATCH)
        fit(net, task.train, recipe, generator=torch.Generator().manual_seed(seed))
        seconds = time.perf_counter() - began
        if task.reached(net):
            return seconds, epochs
    raise TrainingError(f"our own loop missed the grade in {MOST_EPOCHS} epochs")


def _rival(how: Callable[[nn.Module, ImageSet], Epoch], seed: int, data: Path | None) -> Result:
    vars(training)["keep_freed_memory"] = lambda: False  # what checks the grade must not help
    task = _Task(data)
    torch.manual_seed(seed)
    net, seconds = task.network(seed), 0.0
    epoch = how(net, task.train)
    for epochs in range(1, MOST_EPOCHS + 1):
        began = time.perf_counter()
        epoch()
        seconds += time.perf_counter() - began
        if task.reached(net):
            return seconds, epochs
    raise TrainingError(f"{how.__name__} missed the grade in {MOST_EPOCHS} epochs")


class _Pictures(TorchDataset[tuple[Tensor, int]]):
    """Images as torchvision's MNIST gives them: from 8 bits, converted one at a time."""

    def __init__(self, data: ImageSet) -> None:
        from torchvision.transforms import ToTensor

        self._pixels = data.bytes(torch.arange(len(data))).squeeze(1).numpy()
        self._labels = data.labels.tolist()
        self._convert = ToTensor()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._convert(Image.fromarray(self._pixels[index])), self._labels[index]


def with_dataloader(net: nn.Module, train: ImageSet) -> Epoch:
    """The loop that tutorials teach and the seed study has."""
    loader = DataLoader(_Pictures(train), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters())

    def epoch() -> None:
        net.train()
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()

    return epoch


def with_art(net: nn.Module, train: ImageSet) -> Epoch:
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=net,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(net.parameters()),
        input_shape=train.shape,
        nb_classes=10,
        device_type="cpu",
    )
    images, labels = train.images.numpy(), train.labels.numpy()
    return lambda: classifier.fit(images, labels, batch_size=BATCH, nb_epochs=1)
