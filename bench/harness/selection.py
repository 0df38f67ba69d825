"""Which cells a run measures: its suites, the plugins that options name, and words of ``-k``.

A suite is a cross of attacks and defenses. ``--attack`` and ``--defense`` take the place of that
side of it; where no suite is named, the other side is everything. A word of ``-k`` that is exactly
a plugin's name, and a test's id, add the cells that they name to those of the suite, so that they
are found wherever they are; what ``-k`` then leaves out is pytest's affair.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from attacks import ATTACKS
from bench.spec import suites
from bench.spec.cell import Cell, cross, kind_of, level_of, with_parameters
from bench.spec.suites import Suite
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError
from fixtures.models import MODELS
from fixtures.registry import Registry

KINDS = ("detection", "repair")


@dataclass(frozen=True)
class Axes:
    """The other sides of the cross, looked up. ``rates``: swept poison rates, usually none."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...] = ()


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
    ``words``: of ``-k``, see `words_of`. ``ids``: of cells, from test ids. Raises BenchError that
    names the option or the file.
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
    cells += [cell for cell in map(cell_of, ids) if cell is not None]
    return in_order(cells)


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
    telling = set(words) - {*axes.datasets, *axes.models}
    wider = Axes(
        datasets=(*axes.datasets, *(n for n in DATASETS.names() if n in telling)),
        models=(*axes.models, *(n for n in MODELS.names() if n in telling)),
        seeds=axes.seeds,
        rates=axes.rates,
    )
    return [
        cell
        for cell in (_everything(wider, given, against) if telling else ())
        if telling & {cell.dataset, cell.model, cell.attack, cell.defense}
    ]


def _cross(axes: Axes, attacks: Sequence[str], defenses: Sequence[str]) -> list[Cell]:
    return cross(axes.datasets, axes.models, attacks, defenses, axes.seeds, axes.rates)


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once; a victim's cells together, from the plainest trigger to the stealthiest."""
    unique = list(dict.fromkeys(cells))
    places = [
        {value: at for at, value in enumerate(dict.fromkeys(values))}
        for values in zip(*((c.dataset, c.model, c.seed) for c in unique), strict=True)
    ]

    def place(cell: Cell) -> tuple[Any, ...]:
        study = [
            of[part] for of, part in zip(places, (cell.dataset, cell.model, cell.seed), strict=True)
        ]
        params = cell.attack_params
        attack = (level_of(cell.attack), cell.attack, len(params), str(params))
        kind = ("attack", *KINDS).index(cell.kind)
        return *study, str(cell.model_params), *attack, kind, cell.defense, str(cell.defense_params)

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
            if pattern[1:] not in KINDS:
                raise BenchError(f"{where}: {pattern!r} is no kind: @detection or @repair")
            every = _of_a_kind(DEFENSES.names())
            found += [name for name in every if kind_of(name) == pattern[1:]]
        else:
            found += _of_a_kind(matching(where, [pattern], DEFENSES, "none"))
    if any(fnmatchcase("none", pattern) for pattern in listed):
        found.insert(0, "none")  # the attack's own figures
    return list(dict.fromkeys(found))


def matching(
    where: str, patterns: str | Sequence[str], registry: Registry[Any, Any], also: str | None = None
) -> list[str]:
    """The registered names that globs select. BenchError, which names ``where``, for one without.

    ``also``: a word that is understood though no plugin carries it.
    """
    found: list[str] = []
    for pattern in globs(patterns):
        glob, plus, params = pattern, "", ""
        if registry.kind in ("attack", "defense"):
            glob, plus, params = pattern.partition("+")
        names = registry.names(glob)
        if not names and not (also == "none" and fnmatchcase(also, glob)):
            hint = f" (also: {also})" if also else ""
            raise BenchError(f"{where}: {registry.unknown(glob)}{hint}")
        if plus:
            if glob == also:
                raise BenchError(f"{where}: {also!r} takes no parameters, got {pattern!r}")
            for name in names:
                _build(where, registry, name + plus + params)
        found += [name + plus + params for name in names]
    return list(dict.fromkeys(found))


def _build(where: str, registry: Registry[Any, Any], text: str) -> None:
    """Raises BenchError, one line, where a plugin does not take the parameters it was given."""
    try:
        name, params = with_parameters(text)
        registry.create(name, **params)
    except (BenchError, TypeError, ValueError) as error:
        raise BenchError(f"{where}: {text!r}: {error}") from error


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


def words_of(expression: str) -> list[str]:
    """The words of a ``-k`` expression that select: those under an even number of ``not``.

    Lower case, as ``-k`` does not tell cases apart. Empty for what pytest will refuse.
    """
    quoted = re.sub(
        r"[^\s()]+", lambda m: m[0] if m[0] in ("and", "or", "not") else repr(m[0]), expression
    )
    try:
        tree = ast.parse(quoted.strip() or "''", mode="eval").body
    except SyntaxError:
        return []
    return list(dict.fromkeys(word for word in _positive(tree, True) if word))


def _positive(node: ast.expr, wanted: bool) -> Iterable[str]:
    if isinstance(node, ast.UnaryOp):
        yield from _positive(node.operand, not wanted)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _positive(value, wanted)
    elif isinstance(node, ast.Constant) and wanted:
        yield str(node.value).lower()


def cell_of(id: str) -> Cell | None:
    """The cell that an id names, ``mnist-simplecnn-pixel+size=4-anp-s0``; None where it names none.

    An id whose parameters are a hash cannot be read back: give them with the options.
    """
    *parts, seed = id.split("-")
    if len(parts) not in (3, 4) or not re.fullmatch(r"s\d+", seed):
        return None
    try:
        read = [with_parameters(part) for part in parts]
    except ValueError:
        return None
    registries: list[Registry[Any, Any]] = [DATASETS, MODELS, ATTACKS, DEFENSES]
    known = zip(read, registries, strict=False)
    if not all(name in registry for (name, _), registry in known) or read[0][1]:
        return None
    (dataset, _), (model, model_params), (attack, params), *rest = read
    defense, more = rest[0] if rest else ("none", {})
    cell = Cell(dataset, model, attack, defense, int(seed[1:]), params, more, model_params)
    return cell if cell.id == id else None
