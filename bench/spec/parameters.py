"""A plugin's name with its parameters, as people write it: ``pixel+size=0.2+mapping=all2all``."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from fixtures.errors import BenchError

Params = tuple[tuple[str, Any], ...]
"""Sorted pairs of plain values, which can be compared and hashed."""

PATH = "path"
"""A data set's parameter of this name says where it lies, not what it is. Its value is a text."""


def with_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """``"pixel+mapping=all2all"`` -> its name and parameters, as they stand in a cell's id.

    A plus sign parts them only where a name and ``=`` follow, so that a path may hold others. A
    value is read as JSON, and as plain text where it is none. Raises ValueError for a part without
    ``=`` or without a value.
    """
    first, *pairs = re.split(r"\+(?=[A-Za-z_]\w*=)", text)
    name, plus, rest = first.partition("+")
    if plus:
        raise ValueError(f"{rest!r} is not name=value")
    params: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not value:
            raise ValueError(f"{pair!r} is not name=value")
        params[key] = value if key == PATH else value_of(value)
    return name, params


def frozen(params: Mapping[str, Any] | Params) -> Params:
    """Sorted, with lists as tuples. Raises BenchError for a mapping among the values."""
    return tuple((name, _frozen(value)) for name, value in sorted(dict(params).items()))


def defaults_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a plugin that have a default, with it."""
    found = inspect.signature(factory).parameters.values()
    return {one.name: one.default for one in found if one.default is not one.empty}


def suffix(params: Mapping[str, Any] | Params) -> str:
    """``+name=value`` for each parameter; a hash where that would not do as a file's name."""
    text = "".join(f"+{name}={_written(value)}" for name, value in dict(params).items())
    if re.fullmatch(r"[\w+=.]{0,60}", text):
        return text
    return "+" + hashlib.sha256(json.dumps(dict(params)).encode()).hexdigest()[:8]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def value_of(value: str) -> Any:
    """What a text on the command line means: JSON, and plain text where it is none."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise BenchError(f"a parameter is a number, a text or a list, not {value!r}")
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
