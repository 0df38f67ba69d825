"""The benchmark: crosses every attack with every defense, judges and writes up the results.

May import `fixtures`, `attacks` and `defenses`; names no plugin, it asks the registries. Its
sub-packages import downwards only: runtime <- spec <- victims <- judge <- store <- measure |
expected <- analysis <- report <- auditing <- harness <- speed <- commands.

``Cell``, ``Record``, ``run``, ``audit`` and ``repair`` are imported at their first use, so that
``python -m bench list --help`` starts without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.auditing.audit import audit as audit
    from bench.auditing.audit import repair as repair
    from bench.measure import run as run
    from bench.spec.cell import Cell as Cell
    from bench.store.records import Record as Record

__all__ = ["Cell", "Record", "audit", "repair", "run"]

_PUBLIC = {
    "Cell": "bench.spec.cell",
    "Record": "bench.store.records",
    "audit": "bench.auditing.audit",
    "repair": "bench.auditing.audit",
    "run": "bench.measure",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
