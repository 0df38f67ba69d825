"""``--clean``: the budgets that a run asks for, and what a data set cannot give."""

from __future__ import annotations

from collections.abc import Sequence

from bench.spec.budget import ALL, Budget
from fixtures.datasets import Dataset
from fixtures.errors import BenchError


def parse(text: str | None) -> list[Budget]:
    """``"10,50,all"`` -> [10, 50, "all"]; None -> []. Raises BenchError for anything else."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    good = all(part == ALL or (part.isdecimal() and int(part) > 0) for part in parts)
    found: list[Budget] = [ALL if part == ALL else int(part) for part in parts] if good else []
    if not found or len(set(found)) < len(found):
        raise BenchError(
            f"--clean: {text!r} is not a list of different numbers of images like 10,25,50, "
            f"nor the word {ALL}"
        )
    return found


def shortfall(dataset: Dataset, budgets: Sequence[Budget]) -> str:
    """Which class has the fewest of the images that are asked for, as a sentence; else empty."""
    sizes = dataset.clean.labels.bincount(minlength=len(dataset.classes))
    fewest, most = int(sizes.argmin()), max((b for b in budgets if isinstance(b, int)), default=0)
    if int(sizes[fewest]) >= most:
        return ""
    return (
        f"triggerbench: --clean {most}: a class of {dataset.name} with fewer clean images gives "
        f"what it has; fewest has class {dataset.classes[fewest]}, {int(sizes[fewest])}"
    )
