"""What makes two runs the same run: the hash of everything that shapes the result.

The meaning of source code is part of it, see `bench.spec.meaning`. For a plugin that is its own
file and every file of its package that it imports, so changing a trigger retrains its victims;
renaming a test or mending a comment does not.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version as installed
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from attacks import ATTACKS
from bench.runtime.environment import machine
from bench.spec import defaults
from bench.spec.cell import KIND, Cell, flavour_of
from bench.spec.meaning import meaning
from bench.spec.parameters import PATH
from defenses import DEFENSES, view
from fixtures import training
from fixtures.blame import blamed
from fixtures.datasets import Dataset, splitting
from fixtures.errors import PluginError
from fixtures.models import MODELS
from fixtures.recipes import Recipe

Identity = dict[str, dict[str, Any]]
"""Four groups of plain JSON values; see `GROUPS`."""

GROUPS = ("asked", "code", "versions", "machine")
"""``asked``: data set, plugins, parameters, recipe, seed. ``code``: hashes of what ran,
by meaning. ``versions``: of the libraries. ``machine``: what of it decides the last digits."""

PROJECT = frozenset({"fixtures", "attacks", "defenses"})
SHAPELESS = (
    "fixtures.datasets", "fixtures.packing", "fixtures.places", "fixtures.registry",
    "fixtures.errors",
)  # fmt: skip
"""Modules, with all below them, that shape no figure: names and messages, and data, whose
fingerprint is in the identity instead."""

version = lru_cache(maxsize=None)(installed)
"""Reading a package's metadata takes milliseconds, and every cell asks for seven."""

BENCH = Path(__file__).resolve().parents[1]

DEFENDING = (
    "handed.py", "process/cell.py", "process/networks.py", "process/opened.py", "process/seeing.py",
)  # fmt: skip
"""Files of ``defenses`` that stand between every defense and what it is handed."""

NETWORKS = ("judge/mixed.py", "judge/networks.py")
REFEREE = ("judge/defenses.py", "judge/defender.py", "judge/opening.py", *NETWORKS)
REPAIRS = (*REFEREE, "judge/repairs.py", "judge/reactivation.py", "judge/changed.py")
JUDGING: dict[str, tuple[str, ...]] = {
    "attack": ("judge/attacks.py", "judge/survival.py", "judge/changed.py", *NETWORKS),
    "samples": (*REFEREE, "judge/samples.py"),
    "model": (*REFEREE, "judge/models.py"),
    "inputs": (*REFEREE, "judge/inputs.py"),
    "repair": REPAIRS,
    "training": (*REPAIRS, "judge/training.py"),
    "certified": (*REPAIRS, "judge/training.py", "judge/certified.py"),
}
"""What a cell is judged by -> the files of `bench` that judge it, beside those of `SHARED`."""
SHARED = (
    "judge/common.py", "judge/formulas.py", "runtime/contracts.py", "runtime/verdicts.py",
    "victims/controls.py", "victims/provide.py",
)  # fmt: skip


def victim_identity(cell: Cell, dataset: Dataset, recipe: Recipe, device: torch.device) -> Identity:
    """Everything that shapes the trained victim."""
    factory = MODELS[cell.model].factory
    libraries = ("torch", "torchvision", "pillow", *getattr(factory, "requires", ()))
    return {
        "asked": {
            "dataset": cell.dataset,
            "dataset_params": dict(cell.dataset_params),
            "fingerprint": dataset.fingerprint,
            "model": cell.model,
            "model_params": dict(cell.model_params),
            "attack": cell.attack,
            "attack_params": _attack_params(cell),
            "recipe": _changes(recipe),
            "seed": cell.seed,
        },
        "code": {
            "model": source_of(factory),
            "attack": source_of(ATTACKS[cell.attack].factory),
            "training": source_of(training.fit),
            "splits": source_of(splitting.split),
            "victims": _meaning_of(BENCH, "victims/train.py", "victims/poison.py"),
        },
        "versions": {name: version(name) for name in libraries},
        "machine": machine(device),
    }


def _attack_params(cell: Cell) -> dict[str, Any]:
    """What the attack is built with; of files that it reads their contents, wherever they lie."""
    params = defaults.arguments(cell.dataset, cell.attack, cell.attack_params)
    contents = getattr(ATTACKS[cell.attack].factory, "contents", None)
    if contents is None or PATH not in params:
        return params
    with blamed(f"attack {cell.attack!r}"):
        return {**params, PATH: contents(Path(params[PATH]).expanduser())}


def _changes(recipe: Recipe) -> dict[str, Any]:
    """The fields that differ from a plain `Recipe`; its own values are in the code of training."""
    plain = Recipe()
    return {k: v for k, v in dataclasses.asdict(recipe).items() if v != getattr(plain, k)}


def cell_identity(cell: Cell, victim: Identity) -> Identity:
    """Everything that shapes the cell's figures, given its victim's identity."""
    defended, flavour = cell.defense != "none", flavour_of(cell.defense)
    # Figures that are taken on a clean model too are shaped by what makes that one.
    controlled = KIND[flavour] != "detection"
    return {
        "asked": {
            **victim["asked"],
            "clean": defaults.budget(cell) if defended else None,
            "defense": cell.defense,
            "defense_params": dict(cell.defense_params),
            **({} if cell.split == "test" else {"split": cell.split}),
        },
        "code": {
            **victim["code"],
            **(_defending(cell) if defended else {}),
            **({"control": source_of(ATTACKS["none"].factory)} if controlled else {}),
            "judging": _meaning_of(BENCH, *SHARED, *JUDGING[flavour]),
        },
        "versions": {
            **victim["versions"],
            **{name: version(name) for name in ("numpy", "scikit-learn", "scipy", "torchmetrics")},
        },
        "machine": victim["machine"],
    }


def _defending(cell: Cell) -> dict[str, str]:
    folder = Path(view.__file__).parent
    return {"defense": _defense_source(cell), "process": _meaning_of(folder, *DEFENDING)}


def _defense_source(cell: Cell) -> str:
    """The defense's source; with that of the defenses which it runs, as its parameters name."""
    with blamed(f"defense {cell.defense!r}"):
        defense = DEFENSES.create(cell.defense, **dict(cell.defense_params))
        used = [source_of(DEFENSES[name].factory) for name in getattr(defense, "uses", ())]
    own = source_of(DEFENSES[cell.defense].factory)
    return _hash("".join([own, *used]).encode()) if used else own


def key(identity: Identity) -> str:
    """The hash of an identity, 24 hexadecimal digits."""
    return _hash(json.dumps(identity, sort_keys=True).encode())


def without(identity: Identity, *names: str) -> Identity:
    """The identity less some of its entries: without ``"seed"``, what may be averaged is equal."""
    return {
        group: {name: value for name, value in entries.items() if name not in names}
        for group, entries in identity.items()
    }


def differences(ours: Identity, theirs: Identity, *groups: str) -> list[str]:
    """What differs, as people say it: ``recipe 2 -> 3``, or ``code of attack`` for a hash."""
    found = []
    for group in groups or GROUPS:
        mine, other = ours.get(group, {}), theirs.get(group, {})
        for name in sorted({*mine, *other}):
            before, after = mine.get(name), other.get(name)
            if before == after:
                continue
            if group == "code":
                found.append(f"code of {name}")
            elif isinstance(before, Mapping) and isinstance(after, Mapping):
                inner = differences({"": dict(before)}, {"": dict(after)}, "")
                found += [f"{name} {line}" for line in inner]
            else:
                found.append(f"{name} {_show(before)} -> {_show(after)}")
    return found


def _show(value: Any) -> str:
    return "(none)" if value is None else str(value)


@lru_cache(maxsize=256)
def source_of(factory: Callable[..., Any]) -> str:
    """Hash of the meaning of a plugin's code, with that of what it imports from its own package."""
    found = {
        name: _hash(meaning(textwrap.dedent(source)).encode())
        for name, source in sources(factory).items()
    }
    return _hash(json.dumps(found, sort_keys=True).encode())


def sources(factory: Callable[..., Any]) -> dict[str, str]:
    """The modules that `source_of` makes its hash of: name -> source."""
    classes = inspect.getmro(factory) if isinstance(factory, type) else (factory,)
    modules = {module.__name__: module for module in map(inspect.getmodule, classes) if module}
    packages = {_package(factory.__module__)} | PROJECT
    found: dict[str, str] = {}
    pending = [module for name, module in modules.items() if _package(name) in packages]
    while pending:
        module = pending.pop()
        if module.__name__ not in found:
            source = found[module.__name__] = _source(module, factory)
            imported = (m for m in _imports(module, source) if _package(m.__name__) in packages)
            pending.extend(m for m in imported if not _is_shapeless(m.__name__))
    return found


@lru_cache(maxsize=32)
def _meaning_of(folder: Path, *names: str) -> str:
    """Hash of files of a folder."""
    return _hash("".join(meaning((folder / name).read_text()) for name in names).encode())


def _source(module: ModuleType, factory: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # typed into a shell: the class is all there is
        try:
            return inspect.getsource(factory)
        except (OSError, TypeError):
            raise PluginError(
                f"{factory.__qualname__} has no source file: what shapes its figures is unknown"
            ) from None


def _imports(module: ModuleType, source: str) -> Iterator[ModuleType]:
    names = _imported(textwrap.dedent(source), module.__package__ or "")
    yield from (sys.modules[name] for name in names if name in sys.modules)


@lru_cache(maxsize=256)
def _imported(source: str, package: str) -> tuple[str, ...]:
    """What a module of the package imports; of ``from x import y`` both ``x`` and ``x.y``."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _is_shapeless(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in SHAPELESS)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
