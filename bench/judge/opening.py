"""What opens a defender's process: what it is handed, the code it runs, what it may read."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import sklearn
import torch
from torch import Tensor

import defenses
import fixtures
from bench.runtime.child import search_path
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell
from defenses import DEFENSES
from defenses.handed import Handed, Pixels
from defenses.process.guard import UNKNOWN
from defenses.process.messages import Opening
from fixtures.models import MODELS
from fixtures.places import data_folder

SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/sys", "/dev", "/System",
    "/Library", "/run", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys",
    "/proc/version", "/proc/driver", "/proc/filesystems", "/proc/mounts",
)  # fmt: skip
"""Where libraries and what they ask of a machine lie."""

WEIGHTS_FROM_OUTSIDE = {"TORCH_HOME": "~/.cache/torch", "HF_HOME": "~/.cache/huggingface"}
"""What a defense that brings weights from outside may read, too: by variable, and by default."""


PUBLISHED = "the published data set, which a defender has not"


def opening_of(
    plugin: str, cell: Cell, handed: Handed, workspace: Workspace, scratch: str
) -> Opening:
    """The message that opens it. ``scratch``: its folder for temporary files.

    `given_tensors` and `given_files` go with it.
    """
    defense, model = DEFENSES[cell.defense].factory, MODELS[cell.model].factory
    hidden = _hidden(cell, workspace)
    modules = _modules(cell, defense, model)
    readable, listed = _readable(cell, modules, [path for path, _ in hidden])
    return Opening(
        plugin=plugin,
        defense=cell.defense,
        params=dict(cell.defense_params),
        factories=_pickled(defense, model),
        source=Path(getattr(sys.modules.get(defense.__module__), "__file__", None) or "").name,
        modules=modules,
        path=search_path(),
        shape=handed.shape,
        num_classes=handed.num_classes,
        device=str(handed.device),
        seed=handed.seed,
        model=cell.model,
        model_params=dict(handed.model_params),
        recipe=dataclasses.asdict(handed.recipe),
        weights=None if handed.weights is None else list(handed.weights),
        parts=list(_parts(handed)),
        threads=torch.get_num_threads(),
        scratch=scratch,
        readable=readable,
        listed=listed,
        hidden=hidden,
    )


def given_tensors(handed: Handed) -> list[Tensor]:
    """The weights, then the labels of each part."""
    return [*(handed.weights or {}).values(), *(p.labels for p in _parts(handed).values())]


@contextmanager
def given_files(handed: Handed) -> Iterator[list[int]]:
    """Descriptors of the pixels of each part, open inside."""
    with ExitStack() as opened:
        parts = _parts(handed).values()
        yield [opened.enter_context(part.path.open("rb")).fileno() for part in parts]


def _parts(handed: Handed) -> dict[str, Pixels]:
    named = {"clean": handed.clean, "suspect": handed.suspect}
    return {name: part for name, part in named.items() if part is not None}


def _hidden(cell: Cell, workspace: Workspace) -> list[tuple[str, str]]:
    """Folders and files that may not be read, wherever they lie, each with what it is."""
    folders = {
        str(data_folder(workspace.data)): PUBLISHED,
        str(Path(sklearn.__file__).parent / "datasets" / "data"): PUBLISHED,
        str(workspace.cache): "the benchmark's cache, which a defender has not",
        **{
            str(folder / "results"): "results of earlier runs, which a defender has not"
            for folder in (Path.cwd(), Path(str(defenses.__file__)).parents[1])
        },
    }
    if cell.dataset_path is not None:
        folders[cell.dataset_path] = PUBLISHED
    return list(folders.items())


def _pickled(*factories: Any) -> bytes:
    """By name where the defender's process can import their module, else by value."""
    by_value = {
        module
        for factory in factories
        if (module := sys.modules.get(factory.__module__)) and not _travels(module)
    }
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickled: bytes = cloudpickle.dumps(factories)
        return pickled
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _modules(cell: Cell, *factories: Any) -> list[str]:
    """Those of the factories, and of defenses that the cell's parameters name."""
    values = dict(cell.defense_params).values()
    named = [value for value in values if isinstance(value, str) and value in DEFENSES]
    names = {factory.__module__ for factory in factories}
    names |= {DEFENSES[name].factory.__module__ for name in named}
    return sorted(n for n in names if n in sys.modules and _travels(sys.modules[n]))


def _travels(module: ModuleType) -> bool:
    """Whether the defender's process can import it: it is a file on the path, and asks for nothing
    that a defender has not."""
    name = module.__name__
    if name.partition(".")[0] in ("fixtures", "defenses"):
        return True
    top, _, inner = name.partition(".")
    found = PathFinder.find_spec(top)
    spec = module.__spec__ if inner else found
    if found is None or spec is None or spec.origin != getattr(module, "__file__", None):
        return False
    used = {getattr(value, "__module__", None) or "" for value in vars(module).values()} | {
        value.__name__ for value in vars(module).values() if isinstance(value, ModuleType)
    }
    return not any(
        one == package or one.startswith(f"{package}.") for one in used for package in UNKNOWN
    )


def _readable(
    cell: Cell, modules: Iterable[str], hidden: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Folders and files of code, and for a defense that brings weights those where libraries keep
    them, without what is hidden in them; and the folders that were left out for that."""
    sees = getattr(DEFENSES[cell.defense].factory, "sees", ())
    outside = WEIGHTS_FROM_OUTSIDE.items() if "pretrained" in sees else ()
    code = [fixtures, defenses, *(sys.modules[name] for name in modules)]
    wanted = [
        *SYSTEM,
        *(sys.prefix, sys.base_prefix),
        *search_path(),
        *(Path(str(module.__file__)).parent for module in code),
        *(Path(os.environ.get(name, path)).expanduser() for name, path in outside),
    ]
    return _carved(tuple(map(str, wanted)), tuple(hidden))


@lru_cache(maxsize=8)
def _carved(wanted: tuple[str, ...], hidden: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """As `_readable`: cells of one run ask for the same folders."""
    apart = [Path(path).resolve() for path in hidden]
    readable, listed = list[str](), list[str]()
    for path in dict.fromkeys(Path(path).resolve() for path in wanted):
        for found, whole in _without(path, apart):
            (readable if whole else listed).append(str(found))
    return readable, listed


def _without(path: Path, hidden: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """What lies beneath a path and may be read whole, and (False) folders that may not."""
    if any(path == one or one in path.parents for one in hidden) or not path.exists():
        return
    inside = any(path in one.parents for one in hidden)
    yield path, not inside
    if inside:
        for entry in sorted(path.iterdir()):
            yield from _without(entry, hidden)
