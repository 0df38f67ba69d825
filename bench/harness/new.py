"""``python -m bench new``: writes a plugin that works, and its conformance test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Any

from bench.runtime import files
from fixtures.errors import BenchError
from fixtures.registry import NAME, Registry, did_you_mean

TEMPLATES = Path(__file__).with_name("templates")
CHECKOUT = Path(__file__).resolve().parents[2]

KINDS = {"attack": "attack", "defense": "defense", "dataset": "data set", "model": "model"}
"""What can be written, and what messages call it."""

DEFENSES = ("samples", "model", "inputs", "repair", "training", "certified")
"""The flavours of defense that can be written."""

LONGEST = 60
"""Characters of a name, at most. Files are named by a cell's id, which has four names in it."""

RESERVED = {"auto", "none", "conftest"}
"""Words of the options, and the file that pytest loads by itself."""


def new(kind: str, name: str, folder: Path, *, defense: str | None = None) -> list[Path]:
    """Write ``NAME.py`` and ``test_NAME.py`` into a folder: both or, with a BenchError, neither.

    ``kind``: one of `KINDS`. ``defense``: for a defense, one of `DEFENSES`, else samples.
    """
    template = _template(kind, defense)
    written = [folder / f"{name}.py", folder / f"test_{name}.py"]
    _check_name(name, written)
    values = {"name": name, "class": class_of(name), "kind": kind, "what": KINDS[kind]}
    texts = [_fill(template, values), _fill("test.py.jinja", values)]
    try:
        for path, text in zip(written, texts, strict=True):
            files.write(path, text)
    except BaseException:
        for path in written:  # neither was there before
            path.unlink(missing_ok=True)
        raise
    return written


def commands(kind: str, name: str, folder: Path) -> tuple[str, str]:
    """What tests and what runs a new plugin, from the folder that it was written to.

    ``python -m pytest`` rather than ``pytest``, since only that imports from the current folder.
    The checkout's conftest.py loads the benchmark's own pytest plugin; elsewhere ``-p`` must name
    it. A data set or model is run with the study's attacks and defenses, an attack or defense with
    everything.
    """
    bench = "bench" if folder.resolve() == CHECKOUT else "--pyargs bench -p bench.plugin"
    which = {"dataset": "--dataset", "model": "--model"}.get(kind, "-k")
    return (
        f"python -m pytest test_{name}.py",
        f"python -m pytest {bench} -p {name} {which} {name}",
    )


def class_of(name: str) -> str:
    """``loss_ranking`` -> ``LossRanking``; with ``Plugin`` in front where that is no identifier."""
    joined = "".join(part.capitalize() for part in name.split("_"))
    usable = joined.isidentifier() and not keyword.iskeyword(joined)
    return joined if usable else f"Plugin{joined}"


def _template(kind: str, defense: str | None) -> str:
    if kind not in KINDS:
        raise BenchError(_unknown("kind of plugin", kind, tuple(KINDS)))
    if kind != "defense":
        if defense is not None:
            raise BenchError(f"--kind: {defense!r}: only a defense has a kind, not {_a(kind)}")
        return f"{kind}.py.jinja"
    defense = "samples" if defense is None else defense
    if defense not in DEFENSES:
        raise BenchError(f"--kind: {_unknown('kind of defense', defense, DEFENSES)}")
    return f"defense_{defense}.py.jinja"


def _a(kind: str) -> str:
    return f"{'an' if kind == 'attack' else 'a'} {KINDS[kind]}"


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    return f"unknown {what} {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"


def _check_name(name: str, written: list[Path]) -> None:
    if not re.fullmatch(NAME, name):
        raise BenchError(
            f"{name!r} is no name for a plugin: lower-case letters, digits and underscores"
        )
    if len(name) > LONGEST:
        raise BenchError(f"{name!r} is no name for a plugin: more than {LONGEST} characters")
    if name[0].isdigit():
        raise BenchError(f"{name!r} is no name for a plugin: a module cannot begin with a digit")
    if keyword.iskeyword(name):
        raise BenchError(f"{name!r} is no name for a plugin: it is a word of Python's own")
    if name in RESERVED:
        raise BenchError(f"{name!r} is no name for a plugin: it means something else here")
    for registry in _registries():
        if name in registry:
            raise BenchError(f"{name!r} is taken: {registry.kind} {name!r} exists")
    for path in written:
        if path.exists() or path.is_symlink():
            raise BenchError(f"{path} exists; nothing was written")
    for path in written:
        if importlib.util.find_spec(path.stem) is not None:
            raise BenchError(f"{path.stem!r} is taken: Python finds a module or folder called so")


def _registries() -> tuple[Registry[Any, Any], ...]:
    import attacks
    import defenses
    from fixtures import datasets, models

    return attacks.ATTACKS, defenses.DEFENSES, datasets.DATASETS, models.MODELS


def _fill(template: str, values: dict[str, str]) -> str:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((TEMPLATES / template).read_text()).render(values)
