"""The benchmark: crosses every attack with every defense, judges and writes up the results.

May import `fixtures`, `attacks` and `defenses`; names no plugin, it asks the registries. What
`__all__` names is imported at its first use, so ``python -m bench list --help`` needs no PyTorch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.cell import Cell as Cell
    from bench.records import Record as Record
    from bench.run import run as run

__all__ = ["Cell", "Record", "run"]


class _Package(ModuleType):
    @property
    def Cell(self) -> Any:  # noqa: N802 - a class
        return import_module("bench.cell").Cell

    @property
    def Record(self) -> Any:  # noqa: N802
        return import_module("bench.records").Record

    @property
    def run(self) -> Any:
        return import_module("bench.run").run

    @run.setter
    def run(self, module: ModuleType) -> None:
        """Importing ``bench.run`` would put the module here; the function keeps its place."""
        if not isinstance(module, ModuleType):
            raise AttributeError("bench.run is fixed; replace bench.run.run where it is used")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
