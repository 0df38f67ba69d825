"""Victims: backdoored models, each trained once and kept."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from attacks import ATTACKS, Attack
from bench import defaults, files
from bench.cell import Cell
from bench.contracts import blamed, check_poisoned, need, stamp
from bench.costs import Cost, cost
from bench.identity import Identity, attack_params, key, victim_identity
from bench.workspace import Workspace, usual
from defenses import DefenderView
from fixtures import datasets, models
from fixtures.datasets import Dataset, ImageSet
from fixtures.errors import BenchError
from fixtures.seeding import seed_of, seeded
from fixtures.training import Progress, fit

SCHEMA = 1
"""Of the JSON beside the weights."""


@dataclass(frozen=True, eq=False)
class Poison:
    """What an attack did to a training set, without the rest of it.

    ``mask``: bool [N]. ``labels`` [N]: as received. ``images``: the poisoned ones.
    """

    mask: Tensor
    labels: Tensor
    images: Tensor

    def onto(self, clean: ImageSet) -> ImageSet:
        """A copy of the clean training set with the poison in it."""
        images = clean.images.clone()
        images[self.mask] = self.images
        return ImageSet(images, self.labels.clone())


@dataclass(frozen=True, eq=False)
class Victim:
    """The trained model of a cell, with the attack that made it and the data it was trained on.

    ``poisoned``: bool [N] over ``dataset.train``. ``poison``: what was done to it. ``training``:
    what the real training cost, also when it was loaded. ``trained``: whether this process trained
    it, rather than loaded it.
    """

    cell: Cell
    dataset: Dataset
    model: nn.Module
    attack: Attack
    poisoned: Tensor
    poison: Poison
    training: Cost
    trained: bool

    @property
    def suspect(self) -> ImageSet:
        """The training set as a defender receives it, made anew: whoever asks may change it."""
        return self.poison.onto(self.dataset.train)

    def view(self, seed: int) -> DefenderView:
        """What a defender sees of it, all of it copies: a defense may change what it is given."""
        return DefenderView(
            model=copy.deepcopy(self.model),
            clean=self.dataset.clean.clone(),
            suspect=self.suspect,
            num_classes=len(self.dataset.classes),
            generator=torch.Generator().manual_seed(seed),
            recipe=defaults.recipe(self.cell.dataset),
        )

    @property
    def others(self) -> ImageSet:
        """The test images that the trigger should give another class than their own."""
        test = self.dataset.test
        return test.take((test.labels != self.attack.aim(test.labels)).nonzero().flatten())

    def triggered(self, images: Tensor) -> Tensor:
        """Stamped images, checked. Raises PluginError that names the attack."""
        return stamp(f"attack {self.cell.attack!r}", self.attack, images)


def victim(cell: Cell, at: Workspace | None = None, *, progress: Progress | None = None) -> Victim:
    """Train the model that the cell attacks, or load it; the cell's defense plays no part.

    Two processes that want the same victim wait for each other, and one trains it. A damaged file
    is named in a warning, set aside and trained anew. Raises BenchError, each one line.
    """
    at = at or usual()
    undefended = cell.undefended
    identity = identity_of(undefended, at)
    found: Victim = at.recall(key(identity), lambda: _obtain(undefended, at, identity, progress))
    return found


def is_trained(cell: Cell, at: Workspace) -> bool:
    """Whether the cache holds the cell's victim, without loading it."""
    try:
        path = _path(at, identity_of(cell.undefended, at))
    except BenchError:  # of a plugin that cannot be built: its own cell will say so
        return False
    return path.with_suffix(".json").exists()


def _path(at: Workspace, identity: Identity) -> Path:
    return at.cache / "victims" / f"{key(identity)}.safetensors"


def identity_of(cell: Cell, at: Workspace) -> Identity:
    """Everything that shapes the cell's victim, without training or loading it."""
    dataset = datasets.load(cell.dataset, at.data)
    return victim_identity(cell, dataset, defaults.recipe(cell.dataset), at.torch_device())


def _obtain(cell: Cell, at: Workspace, identity: Identity, progress: Progress | None) -> Victim:
    device = at.torch_device()
    dataset = datasets.load(cell.dataset, at.data)
    path = _path(at, identity)
    files.make_folder(path.parent)
    poison = None
    with files.locked(path):
        net, attack = _build(cell, dataset)
        training = _load(path, cell, net, attack)
        if training is None:
            poison = _poison(cell, dataset, attack)
            with cost() as training:
                _train(cell, dataset, net, attack, poison, device, progress)
            _save(path, cell, net, attack, identity, training)
    # A file does not keep the order of weights in memory, and another one rounds otherwise.
    net.to(device).to(memory_format=torch.channels_last)
    attack.cpu().requires_grad_(False).eval()
    received = _poison(cell, dataset, attack)  # again: a learned trigger is final only now
    if poison is not None:
        need(
            torch.equal(received.mask, poison.mask) and torch.equal(received.labels, poison.labels),
            f"attack {cell.attack!r}",
            "poison chose other samples when it was called again with an equal generator",
        )
    return Victim(
        cell=cell,
        dataset=dataset,
        model=net.eval(),
        attack=attack,
        poisoned=received.mask,
        poison=received,
        training=training,
        trained=poison is not None,
    )


def _build(cell: Cell, dataset: Dataset) -> tuple[nn.Module, Attack]:
    with blamed(f"model {cell.model!r}"):
        seed = seed_of("model", cell.seed)
        net = models.build(cell.model, dataset, seed=seed, **dict(cell.model_params))
    with blamed(f"attack {cell.attack!r}"), seeded(seed_of("trigger", cell.seed)):
        given = {"shape": dataset.shape, "num_classes": len(dataset.classes)}
        params = {**given, **attack_params(cell)}
        attack = ATTACKS.create(cell.attack, **params)
    stamp(f"attack {cell.attack!r}", attack, dataset.train.images[:2])  # a broken one says so now
    return net, attack


def _poison(cell: Cell, dataset: Dataset, attack: Attack) -> Poison:
    plugin = f"attack {cell.attack!r}"
    seed = seed_of("poison", cell.seed)
    with blamed(plugin), seeded(seed):
        got = attack.poison(dataset.train.clone(), torch.Generator().manual_seed(seed))
    got = check_poisoned(plugin, attack, dataset.train, got)
    return Poison(got.poisoned, got.labels, got.images[got.poisoned])


def _train(
    cell: Cell,
    dataset: Dataset,
    net: nn.Module,
    attack: Attack,
    poison: Poison,
    device: torch.device,
    progress: Progress | None,
) -> None:
    net.to(device)
    attack.to(device)
    poisoned = poison.mask.to(device)

    def on_batch(images: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        with blamed(f"attack {cell.attack!r}"):
            return attack.on_batch(images, labels, poisoned[index])

    def penalty() -> Tensor | float:
        with blamed(f"attack {cell.attack!r}"):
            return attack.penalty()

    # A learned trigger is stamped live, on clean images: its first draft is not part of the poison.
    data = (
        ImageSet(dataset.train.images, poison.labels)
        if attack.learned
        else poison.onto(dataset.train)
    )
    recipe = defaults.recipe(cell.dataset)
    recipe = dataclasses.replace(recipe, trigger_lr=attack.learning_rate or recipe.trigger_lr)
    seed = seed_of("training", cell.seed)
    with blamed(f"training {cell.id}"), seeded(seed):
        fit(
            net,
            data,
            recipe,
            generator=torch.Generator().manual_seed(seed),
            trigger=attack,
            on_batch=on_batch,
            penalty=penalty,
            progress=progress,
        )


def _save(
    path: Path, cell: Cell, net: nn.Module, attack: Attack, identity: Identity, training: Cost
) -> None:
    tensors = {f"model.{name}": t.contiguous().cpu() for name, t in net.state_dict().items()}
    tensors |= {f"attack.{name}": t.contiguous().cpu() for name, t in attack.state_dict().items()}
    data = save_tensors(tensors)
    about = {
        "schema": SCHEMA,
        "cell": cell.to_json(),
        "identity": identity,
        "training": vars(training),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    # The JSON comes last and vouches for the weights: without it a victim does not exist.
    files.write(path, data)
    files.write(path.with_suffix(".json"), json.dumps(about, indent=1))


def _load(path: Path, cell: Cell, net: nn.Module, attack: Attack) -> Cost | None:
    """Fill ``net`` and ``attack`` from the store; what training cost, or None if it is not there.

    Nothing is filled unless all of it fits.
    """
    about_path = path.with_suffix(".json")
    if not about_path.exists():
        return None
    try:
        about = json.loads(about_path.read_text())
        if about["schema"] != SCHEMA:
            raise ValueError(f"schema {about['schema']}, this version reads {SCHEMA}")
        training = Cost(**about["training"])
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError("its checksum does not match")
        tensors = load_tensors(data)
        modules = {"model.": net, "attack.": attack}
        wanted = {
            prefix + name: tensor.shape
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
            raise ValueError("its weights are of another model or attack")
        for prefix, module in modules.items():
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        return training
    except (AttributeError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        lacks = "it lacks " if isinstance(error, KeyError) else ""
        reason = lacks + str(error).strip().partition("\n")[0]
        for file in (path, about_path):
            files.set_aside(file)
        warnings.warn(
            f"the stored victim of {cell.id} is damaged ({reason}): "
            f"set aside as {path.name}.damaged and trained anew",
            stacklevel=2,
        )
        return None
