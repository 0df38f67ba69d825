"""What it costs that a defense runs in a process of its own: the study's cells, here and there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.judge.defender import Defender
from bench.runtime.child import server
from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.speed.clock import table
from bench.victims import victim
from defenses import DEFENSES
from defenses.handed import Handed, opened

ATTACKS = ("none", "pixel", "noise", "blur", "patch")
METHODS = {"activation_clustering": "detect", "fine_pruning": "repair"}
SEED = 0


def measure(data: Path | None, repeats: int) -> list[str]:
    """Each defense of the study on each victim, in turn in this process and in one of its own."""
    rows, here, there, training = [], 0.0, 0.0, 0.0
    with TemporaryDirectory() as cache:
        began = time.perf_counter()
        server().child().close()
        start = time.perf_counter() - began
        at = Workspace(data=data, cache=Path(cache), device="cpu")
        for attack in ATTACKS:
            began = time.perf_counter()
            attacked = victim(Cell("mnist", attack=attack), at)
            training += time.perf_counter() - began
            for defense in METHODS:
                cell = Cell("mnist", attack=attack, defense=defense)
                sees = DEFENSES[defense].factory.sees  # type: ignore[attr-defined]
                handed = attacked.handed(SEED, sees, defaults.budget(cell))
                pairs = [_pair(cell, handed, at) for _ in range(repeats)]
                own, apart = (median(side) for side in zip(*pairs, strict=True))
                here, there = here + own, there + apart
                rows.append(
                    {
                        "cell": cell.id,
                        "in the benchmark's own process": f"{own:.2f} s",
                        "in a process of its own": f"{apart:.2f} s",
                    }
                )
    return [
        *table(rows),
        "",
        f"In all {here:.1f} and {there:.1f} s, {100 * (there / here - 1):+.1f} % of defending: "
        "opening the view, the defense, what it says or makes come back; medians of pairs. With "
        f"the {training:.1f} s that making the victims takes, "
        f"{100 * (there - here) / (training + here):+.1f} %; judging, which is the same on both "
        f"sides, is left out. {start:.1f} s once to start it, while the first victim trains.",
    ]


def _pair(cell: Cell, handed: Handed, at: Workspace) -> tuple[float, float]:
    def here() -> None:
        getattr(DEFENSES.create(cell.defense), METHODS[cell.defense])(opened(handed))

    def there() -> None:
        with Defender(f"defense {cell.defense!r}", cell, handed, at) as defender:
            if METHODS[cell.defense] == "repair":
                defender.make("repair")
            else:
                defender.detect()

    return _seconds(here), _seconds(there)


def _seconds(what: Callable[[], None]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
