"""What computes: the device that a name stands for, where this machine has it."""

from __future__ import annotations

import torch

from fixtures.errors import BenchError


def device_named(name: str) -> torch.device:
    """``auto``: a GPU if there is any. Raises BenchError for one that cannot be used here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BenchError(
            f"device {name!r} cannot be used here ({reason}); use auto or cpu"
        ) from error
    return device
