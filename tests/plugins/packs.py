"""What tests of packing share: pack a tree, read what is packed, find a file of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fixtures.packing.arrangement import image_folder
from fixtures.packing.opening import Packed
from fixtures.packing.packing import packed


def pack(source: Path, **options: Any) -> Packed:
    return packed("cats", source, image_folder, **options)


def contents(found: Packed) -> torch.Tensor:
    """uint8 [N, C, H, W], the training images first."""
    return torch.cat([part.bytes(torch.arange(len(part))) for part in (found.train, found.test)])


def only(cached: Path, name: str) -> Path:
    """The one file of that name below the folder of packed sets."""
    (found,) = cached.glob(f"*/{name}")
    return found
