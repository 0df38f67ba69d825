"""What the benchmark asks of a defender's process, and what that answers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Question = Literal[
    "supports", "detect", "inspect", "calibrate", "screen", "make", "step", "logits", "certify",
    "report",
]  # fmt: skip


class Opening(msgspec.Struct):
    """What a defender is handed; beside it the weights, then the labels of each of ``parts``.

    ``plugin``: what error messages call it. ``factories``: of defense and model, as cloudpickle;
    ``source``: the name of the defense's file. ``modules``: of plugins that they may ask the
    registries for; ``path``: where they are found. ``weights``: the names of the victim's, None
    where they are not seen. ``parts``: ``clean`` and ``suspect``, those that are seen; with each
    comes a file of its pixels. ``readable``: folders and files that may be read; ``listed``:
    folders of which the names may; ``hidden``: what may not, each with what it is.
    """

    plugin: str
    defense: str
    params: dict[str, Any]
    factories: bytes
    source: str
    modules: list[str]
    path: list[str]
    shape: tuple[int, int, int]
    num_classes: int
    device: str
    seed: int
    model: str
    model_params: dict[str, Any]
    recipe: dict[str, Any]
    weights: list[str] | None
    parts: list[str]
    threads: int
    scratch: str
    readable: list[str]
    listed: list[str]
    hidden: list[tuple[str, str]]


class Asked(msgspec.Struct):
    """``method``: of ``make``, what makes the network. ``network``: which one ``logits`` and
    ``certify`` are asked of; ``detect`` and others leave both."""

    question: Question
    method: str = ""
    network: int = 0


class Said(msgspec.Struct):
    """``value``: plain JSON values; ``named``: what the tensors beside it are.

    ``error``: one line, empty where all went well; ``kind``: the class in `fixtures.errors`.
    """

    value: Any = None
    named: list[str] = []
    error: str = ""
    kind: str = ""
    gpu_mib: float = 0.0
