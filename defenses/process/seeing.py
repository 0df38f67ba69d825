"""A defense that asks for a part of the view that it does not see is told so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from defenses.base import Defense
from defenses.view import PARTS, DefenderView
from fixtures.blame import blamed, need
from fixtures.errors import BenchError, PluginError


@contextmanager
def seeing(plugin: str, view: DefenderView) -> Iterator[None]:
    """As `blamed`; and who asked for a part of the view that it does not see is told so.

    That is an error also where nothing else came of it: ``view.sees`` says what is there.
    """
    try:
        with blamed(plugin):
            yield
    except BenchError as error:
        if view.missed:
            raise _missed(plugin, view) from error
        raise
    if view.missed:
        raise _missed(plugin, view)


def _missed(plugin: str, view: DefenderView) -> PluginError:
    seen = ", ".join(part for part in PARTS if part in view.sees) or "nothing"
    asked = f"asked for view.{view.missed[0]}, which it does not see"
    return PluginError(f"{plugin}: {asked}: sees = {seen}")


def unsupported(plugin: str, defense: Defense, view: DefenderView) -> str | None:
    """Why the defense does not apply to what the view shows, one clause; None where it does."""
    with seeing(plugin, view):
        reason = defense.supports(view)
    need(
        reason is None or (isinstance(reason, str) and bool(reason.strip())),
        plugin,
        f"supports returned {reason!r}, expected None or a reason",
    )
    return reason
