"""Which cells a run measures: its suites, the plugins that options name, and words of ``-k``.

A suite is a cross of attacks and defenses. ``--attack`` and ``--defense`` take the place of that
side of it; where no suite is named, the other side is everything. A word of ``-k`` that is exactly
a plugin's name, and a test's id, add the cells that they name to those of the suite, so that they
are found wherever they are; what ``-k`` then leaves out is pytest's affair.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from attacks import ATTACKS
from bench.harness.ids import cell_of
from bench.spec import defaults, suites
from bench.spec.budget import Budget
from bench.spec.cell import FLAVOURS, KINDS, Cell, cross, flavour_of, kind_of, level_of
from bench.spec.data import told_apart
from bench.spec.parameters import PATH, with_parameters
from bench.spec.suites import Suite
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError
from fixtures.models import MODELS
from fixtures.registry import Registry


@dataclass(frozen=True)
class Axes:
    """The other sides of the cross, looked up, with their parameters.

    ``rates``: swept poison rates, usually none. ``recipe``: empty for the default. ``budgets``:
    swept clean budgets, usually none.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...] = ()
    recipe: str = ""
    budgets: tuple[Budget, ...] = ()


def chosen(
    axes: Axes,
    *,
    suite: str | None = None,
    suite_files: Sequence[Suite] = (),
    attack: str | None = None,
    defense: str | None = None,
    words: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> list[Cell]:
    """The cells of a run, each once, those of one victim together.

    ``suite``, ``attack``, ``defense``: the options' text, None where they were not given.
    ``words``: of ``-k``, see `bench.harness.words`. ``ids``: of cells, from test ids. Raises
    BenchError that names the option or the file.
    """
    picked = [*(named_suites(suite) if suite is not None else ()), *suite_files]
    if not picked:
        base = suites.STUDY if attack is None and defense is None else suites.EVERYTHING
        picked = suites.named(base)
    given = None if attack is None else attacks("--attack", attack)
    against = None if defense is None else defenses("--defense", defense)
    cells: list[Cell] = []
    for one in picked:
        cells += _cross(
            axes,
            attacks(str(one.path), one.attacks) if given is None else given,
            defenses(str(one.path), one.defenses) if against is None else against,
        )
    cells += _named(axes, words, given, against)
    cells += [_placed(cell, cells) for cell in map(cell_of, ids) if cell is not None]
    told_apart(cells)
    return in_order(cells)


def _placed(cell: Cell, others: Sequence[Cell]) -> Cell:
    """A cell that an id named, with the place of its data set as the options give it."""
    paths = (c.dataset_path for c in others if c.data_name == cell.data_name)
    return dataclasses.replace(cell, dataset_path=next(paths, None))


def named_suites(text: str) -> list[Suite]:
    """What ``--suite`` names. Raises BenchError."""
    try:
        return suites.named(text)
    except BenchError as error:
        raise BenchError(f"--suite: {error}") from None


def everything(axes: Axes) -> list[Cell]:
    """Every attack against every defense, at their defaults."""
    return in_order(_everything(axes, None, None))


def _everything(
    axes: Axes, given: Sequence[str] | None, against: Sequence[str] | None
) -> list[Cell]:
    return _cross(
        axes,
        ATTACKS.names() if given is None else given,
        ["none", *_of_a_kind(DEFENSES.names())] if against is None else against,
    )


def _named(
    axes: Axes,
    words: Sequence[str],
    given: Sequence[str] | None,
    against: Sequence[str] | None,
) -> list[Cell]:
    """The cells of everything whose attack, defense, data set or model is one of the words.

    A data set or model that runs anyway tells nothing apart, so its name adds nothing.
    """
    running = {with_parameters(text)[0] for text in (*axes.datasets, *axes.models)}
    telling = set(words) - running
    wider = dataclasses.replace(
        axes,
        datasets=(*axes.datasets, *(n for n in _plain(DATASETS.names()) if n in telling)),
        models=(*axes.models, *(word for word in words if word in telling and _is_model(word))),
    )
    return [
        cell
        for cell in (_everything(wider, given, against) if telling else ())
        if telling & {cell.dataset, cell.model, cell.attack, cell.defense}
    ]


def _is_model(word: str) -> bool:
    """Whether a word is a model's name. Raises UnknownName, BenchError for one of a library that
    does not know it, or that is not there."""
    if word.partition(":")[0] in MODELS.families():
        MODELS[word]
    return word in MODELS


def _cross(axes: Axes, attacks: Sequence[str], defenses: Sequence[str]) -> list[Cell]:
    return cross(
        axes.datasets,
        axes.models,
        attacks,
        defenses,
        axes.seeds,
        axes.rates,
        axes.recipe,
        axes.budgets,
    )


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once; a victim's cells together, from the plainest trigger to the stealthiest."""
    unique = list(dict.fromkeys(cells))

    def study_of(cell: Cell) -> tuple[Any, ...]:
        return cell.dataset, cell.model, cell.seed

    places = [
        {value: at for at, value in enumerate(dict.fromkeys(values))}
        for values in zip(*map(study_of, unique), strict=True)
    ]

    def place(cell: Cell) -> tuple[Any, ...]:
        study = [of[part] for of, part in zip(places, study_of(cell), strict=True)]
        built = (cell.dataset_params, cell.model_params, cell.recipe, cell.recipe_params)
        params = cell.attack_params
        attack = (level_of(cell.attack), cell.attack, len(params), str(params))
        kind = ("attack", *KINDS).index(cell.kind)
        return *study, str(built), *attack, kind, cell.defense, str(cell.defense_params)

    return sorted(unique, key=place)


def attacks(where: str, patterns: str | Sequence[str]) -> list[str]:
    """The attacks that globs select, with their parameters. ``where``: for the error's line."""
    return matching(where, patterns, ATTACKS)


def defenses(where: str, patterns: str | Sequence[str]) -> list[str]:
    """The defenses that globs select, with their parameters; ``none`` among them where it is."""
    listed = globs(patterns)
    found: list[str] = []
    for pattern in listed:
        if pattern.startswith("@"):
            known = [f"@{kind}" for kind in dict.fromkeys((*KINDS, *FLAVOURS.values()))]
            if pattern not in known:
                raise BenchError(f"{where}: {pattern!r} is no kind: {', '.join(known)}")
            every = _of_a_kind(DEFENSES.names())
            found += [n for n in every if pattern[1:] in (kind_of(n), flavour_of(n))]
        else:
            found += _of_a_kind(matching(where, [pattern], DEFENSES, "none"))
    if any(fnmatchcase("none", pattern) for pattern in listed):
        found.insert(0, "none")  # the attack's own figures
    return list(dict.fromkeys(found))


def matching(
    where: str, patterns: str | Sequence[str], registry: Registry[Any, Any], also: str | None = None
) -> list[str]:
    """The registered names that globs select, with their parameters.

    ``also``: a word that is understood though no plugin carries it. A glob leaves out data sets
    that need a parameter which it does not give. Raises BenchError, which names ``where``, for a
    glob without a name, and for a plugin that does not take the parameters it was given.
    """
    found: list[str] = []
    for pattern in globs(patterns):
        try:
            glob, params = with_parameters(pattern)
        except ValueError as error:
            raise BenchError(f"{where}: {pattern!r}: {error}") from None
        if params and glob == also:
            raise BenchError(f"{where}: {also!r} takes no parameters, got {pattern!r}")
        names = registry.names(glob)
        if not names and not (also == "none" and fnmatchcase(also, glob)):
            hint = f" (also: {also})" if also else ""
            raise BenchError(f"{where}: {registry.unknown(glob)}{hint}")
        given = pattern.removeprefix(glob)
        if registry is DATASETS and names != [glob]:
            names = _plain(names, params)
        for name in names if params or registry is DATASETS else ():
            reason = refusal(registry, name, params)
            if reason:
                raise BenchError(f"{where}: {name + given!r}: {reason}")
        found += [name + given for name in names]
    return list(dict.fromkeys(found))


def _plain(names: Sequence[str], params: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
    """The data sets that need no more than these parameters: one that takes a path needs it."""

    def lacks_path(name: str) -> bool:
        return PATH in inspect.signature(DATASETS[name].factory).parameters.keys() - params.keys()

    return [name for name in names if not (lacks_path(name) or refusal(DATASETS, name, params))]


def refusal(registry: Registry[Any, Any], name: str, params: Mapping[str, Any]) -> str:
    """Why a plugin does not take these parameters; empty where it does.

    Attacks and defenses are built. Of a data set and a model, which may take long to build, only
    the names of their parameters are looked at.
    """
    try:
        if registry is DATASETS:
            own = {key: value for key, value in params.items() if key != "flips"}
            inspect.signature(registry[name].factory).bind(root=None, **own)
        elif registry is MODELS:
            inspect.signature(registry[name].factory).bind(shape=None, num_classes=0, **params)
        else:
            registry.create(name, **params)
    except (BenchError, TypeError, ValueError) as error:
        return str(error)
    return ""


def recipe_of(text: str | None) -> str:
    """What ``--recipe`` names, checked; empty where it was not given. Raises BenchError."""
    if text is None:
        return ""
    try:
        name, fields = with_parameters(text)
        defaults.build_recipe(name, fields)
    except (BenchError, ValueError) as error:
        raise BenchError(f"--recipe: {error}") from error
    return text


def _of_a_kind(names: Sequence[str]) -> list[str]:
    """Without those that are no defense at all, each named in a warning."""
    kept = []
    for name in names:
        try:
            kind_of(with_parameters(name)[0])
            kept.append(name)
        except BenchError as error:
            warnings.warn(str(error), stacklevel=2)
    return kept


def globs(patterns: str | Sequence[str]) -> list[str]:
    """The single globs of an option's text, or of a list as it is."""
    return (
        [part.strip() for part in patterns.split(",")] if isinstance(patterns, str) else [*patterns]
    )
