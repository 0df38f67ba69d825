"""Where a run happens: the data folder, the cache, the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.runtime.devices import device_named
from fixtures.places import cache_folder

KEPT_IN_MEMORY = 2
"""Victims that stay in memory: the one that a row of cells attacks, and its clean twin."""


@dataclass(frozen=True)
class Workspace:
    """``data``: the data folder, by default `fixtures.places.data_folder`'s choice.

    ``cache``: where trained victims and finished records are kept, by default
    ``$TRIGGERBENCH_CACHE`` or the user's cache folder. ``device``: ``"auto"`` takes a GPU where
    there is one. What was loaded last stays in memory with the workspace, see `recall`; a workspace
    that is sent to another process arrives without it.
    """

    data: Path | None = None
    cache: Path = field(default_factory=cache_folder)
    device: str = "auto"
    _recent: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def recall(self, name: str, obtain: Callable[[], Any]) -> Any:
        """What was obtained under this name before, else what ``obtain`` gives now.

        The last `KEPT_IN_MEMORY` are kept; the one used longest ago is let go first.
        """
        if name not in self._recent:
            while len(self._recent) >= KEPT_IN_MEMORY:
                del self._recent[next(iter(self._recent))]
            self._recent[name] = obtain()
        self._recent[name] = self._recent.pop(name)  # in order of use: this one is now the last
        return self._recent[name]

    def forget(self) -> None:
        """Let go of all that is kept in memory: what is asked for next comes from the disk."""
        self._recent.clear()

    def __reduce__(self) -> tuple[type[Workspace], tuple[Path | None, Path, str]]:
        return Workspace, (self.data, self.cache, self.device)

    def torch_device(self) -> torch.device:
        """Raises BenchError for a device that this machine or PyTorch does not have."""
        return device_named(self.device)


def usual() -> Workspace:
    """The workspace where none is given: the same one as long as the cache folder is the same."""
    return _in(cache_folder())


@lru_cache(maxsize=1)
def _in(cache: Path) -> Workspace:
    return Workspace(cache=cache)
