"""Where a run happens: the data, the cache, the device. None of it is part of what is asked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
import torch

from fixtures.errors import BenchError


def cache_folder() -> Path:
    """``$TRIGGERBENCH_CACHE``, else the user's cache folder."""
    named = os.environ.get("TRIGGERBENCH_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("triggerbench")


@dataclass(frozen=True)
class Workspace:
    """``data``: the data folder, by default `fixtures.datasets.data_folder`'s choice.

    ``cache``: where trained victims and finished records are kept, by default
    ``$TRIGGERBENCH_CACHE`` or the user's cache folder. ``device``: ``"auto"`` takes a GPU where
    there is one.
    """

    data: Path | None = None
    cache: Path = field(default_factory=cache_folder)
    device: str = "auto"

    def torch_device(self) -> torch.device:
        """Raises BenchError for a device that this machine or PyTorch does not have."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise BenchError(
                f"device {self.device!r} cannot be used here ({reason}); use auto or cpu"
            ) from error
        return device
