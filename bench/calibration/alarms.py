"""How often the regression rule falsely calls a run regressed, counted on real seeds.

``python -m bench.calibration.alarms results/digits`` takes records of one code over many seeds,
accepts some of the seeds and compares others with them: nothing has changed but the seeds, so
whatever is called regressed is a false alarm. Beside it the same with all seeds accepted and some
of them run again, as if a change had dealt each new luck: a lower bound, since no seed is new.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bench.analysis.accepted import Accepted, accepted
from bench.analysis.baseline import compare
from bench.analysis.series import measured
from bench.store import records
from bench.store.records import Record

NEW = 3
"""Seeds of a run, as CI has them."""


@dataclass(frozen=True)
class Alarms:
    """``runs`` that were compared, how many had an alarm, and in which metrics how many had."""

    accepted: int
    runs: int
    alarmed: int
    by_metric: dict[str, int]

    def __str__(self) -> str:
        worst = sorted(self.by_metric.items(), key=lambda pair: -pair[1])
        told = ", ".join(f"{name} {count}" for name, count in worst) or "none"
        return (
            f"{self.accepted} seeds accepted, {NEW} run: {self.alarmed} of {self.runs} runs called "
            f"regressed ({100 * self.alarmed / self.runs:.1f} %); by metric: {told}"
        )


def count(found: Sequence[Record], keep: int, most: int) -> Alarms:
    """Over all ways to accept ``keep`` seeds and run `NEW` others, ``most`` of them drawn.

    Where all seeds are kept, `NEW` of these.
    """
    by_seed = {seed: [r for r in found if r.cell.seed == seed] for seed in _seeds(found)}
    splits = [
        (old, new)
        for old in combinations(by_seed, keep)
        for new in combinations([s for s in by_seed if s not in old] or list(by_seed), NEW)
    ]
    chosen = splits if len(splits) <= most else random.Random(0).sample(splits, most)
    cells = {seeds: _cells(by_seed, seeds) for split in chosen for seeds in split}
    alarmed, by_metric = 0, dict[str, int]()
    for old, new in chosen:
        regressed = [c for c in compare(cells[old], cells[new]) if c.verdict == "regressed"]
        alarmed += bool(regressed)
        for metric in {line.split()[0] for one in regressed for line in one.why}:
            by_metric[metric] = by_metric.get(metric, 0) + 1
    return Alarms(keep, len(chosen), alarmed, by_metric)


def _cells(by_seed: dict[int, list[Record]], seeds: Sequence[int]) -> dict[str, Accepted]:
    return accepted(measured(record for seed in seeds for record in by_seed[seed]))


def _seeds(found: Sequence[Record]) -> list[int]:
    return sorted({record.cell.seed for record in found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a folder with records over many seeds")
    parser.add_argument("--runs", type=int, default=1000, help="splits drawn at most")
    options = parser.parse_args()
    found = records.load_all(options.results)
    several = len(_seeds(found))
    for keep in (several, several - NEW, NEW):
        print(count(found, keep, options.runs))


if __name__ == "__main__":
    main()
