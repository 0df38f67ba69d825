"""What each defense takes in the committed records, and what the cross of one seed adds up to."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench.speed.clock import table
from bench.store import records

RESULTS = Path(__file__).resolve().parents[2] / "results" / "mnist"


def measure(_data: Path | None, _repeats: int) -> list[str]:
    """Reads timings that were taken when the cells were measured; runs nothing."""
    found = records.load_all(RESULTS)
    seeds = sorted({r.cell.seed for r in found})
    rows = []
    for defense in dict.fromkeys(r.cell.defense for r in found if r.cell.defense != "none"):
        spent = [r.timings["defend_s"] for r in found if r.cell.defense == defense]
        rows.append(
            {
                "defense": defense,
                "a cell": f"{median(spent):.1f} s ({min(spent):.1f} to {max(spent):.1f})",
                "cells": len(spent),
            }
        )
    rows.sort(key=lambda row: str(row["defense"]))
    totals = []
    for seed in seeds:
        of_seed = [r for r in found if r.cell.seed == seed]
        training = sum(r.timings["train_s"] for r in of_seed if r.cell.defense == "none")
        defending = sum(r.timings.get("defend_s", 0.0) for r in of_seed)
        measuring = sum(r.timings.get("measure_s", 0.0) for r in of_seed)
        totals.append(
            {
                "seed": seed,
                "cells": len(of_seed),
                "training": f"{training / 60:.1f} min",
                "defending": f"{defending / 60:.1f} min",
                "measuring": f"{measuring / 60:.1f} min",
                "in all": f"{(training + defending + measuring) / 60:.1f} min",
            }
        )
    return [
        "From the records under results/mnist, which hold what each phase took when it ran, "
        "without start-up and the victims of the next seed that learned triggers are tried on.",
        "",
        *table(rows),
        "",
        *table(totals),
    ]
