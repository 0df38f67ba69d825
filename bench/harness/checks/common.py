"""What the checks share: the data set they work on, and what they call a plugin."""

from __future__ import annotations

from typing import Any

DATASET = "digits"
"""Real images that need no download."""


def named(kind: str, plugin: Any) -> str:
    """What messages call a plugin: by its registered name, or what is registered by its own."""
    return f"{kind} {plugin if isinstance(plugin, str) else called(plugin)!r}"


def called(plugin: Any) -> str:
    """A class or function's own name; of what is built already, its class's."""
    return str(getattr(plugin, "__name__", type(plugin).__name__))
