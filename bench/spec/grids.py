"""The grid of a defense: the few values of its parameters that one choice is made among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bench.spec.parameters import Params, defaults_of, frozen, value_of
from defenses import DEFENSES
from fixtures.blame import blamed
from fixtures.errors import BenchError, PluginError
from fixtures.registry import did_you_mean

PARAMETERS = 2
"""Of a grid, at most."""
VALUES = 3
"""Of each parameter, at most."""


@dataclass(frozen=True)
class Grid:
    """``values``: of each parameter, as many as `VALUES`, its default among them."""

    defense: str
    values: Mapping[str, tuple[Any, ...]]

    @property
    def settings(self) -> list[Params]:
        """Every combination of values. What stands at its default is left out, as in any other
        run, so the defense as it is has no parameters."""
        usual = defaults_of(DEFENSES[self.defense].factory)
        return [
            frozen({name: v for name, v in zip(self.values, some, strict=True) if v != usual[name]})
            for some in product(*self.values.values())
        ]


def declared(defense: str) -> Grid | None:
    """The grid that a defense's class declares, checked; None where it declares none.

    Raises PluginError, one line, for one that breaks a rule of `checked`; UnknownName.
    """
    found = getattr(DEFENSES[defense].factory, "grid", {})
    lists = isinstance(found, Mapping) and all(isinstance(v, list | tuple) for v in found.values())
    try:
        if not lists:
            raise BenchError(f"grid = {found!r} is no mapping of names to lists of values")
        return checked("grid", defense, found) if found else None
    except BenchError as error:
        raise PluginError(f"defense {defense!r}: {error}") from error


def given(defense: str, texts: Sequence[str]) -> Grid:
    """The grid of some ``NAME=V1,V2,V3``. Raises BenchError, one line."""
    values: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        if not listed or name in values:
            reason = "stands twice" if name in values else "is not NAME=V1,V2,V3"
            raise BenchError(f"--param: {text!r} {reason}")
        values[name] = tuple(value_of(part.strip()) for part in listed.split(","))
    return checked("--param", defense, values)


def checked(where: str, defense: str, values: Mapping[str, Sequence[Any]]) -> Grid:
    """A grid that is small, of parameters that there are, with their defaults, and can be built.

    Raises BenchError, one line that begins with ``where``.
    """
    usual = defaults_of(DEFENSES[defense].factory)
    if len(values) > PARAMETERS:
        raise BenchError(f"{where}: {', '.join(values)}: at most {PARAMETERS} parameters")
    for name, some in values.items():
        shown = f"{where}: {name}={','.join(map(str, some))}"
        if name not in usual:
            known = f"{did_you_mean(name, list(usual))}; known: {', '.join(usual) or 'none'}"
            raise BenchError(f"{where}: {defense} has no parameter {name!r} with a default{known}")
        if not 1 < len(some) <= VALUES:
            raise BenchError(f"{shown}: {len(some)} values, from 2 to {VALUES} are tried")
        if any(value in some[:at] for at, value in enumerate(some)):
            raise BenchError(f"{shown}: a value stands twice")
        if usual[name] not in some:
            raise BenchError(f"{shown}: the default, {usual[name]}, is not among them")
    grid = Grid(defense, {name: tuple(some) for name, some in values.items()})
    for setting in grid.settings:
        with blamed(f"{where}: {defense} with {dict(setting)}"):
            DEFENSES.create(defense, **dict(setting))
    return grid
