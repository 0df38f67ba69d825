"""How many images, samples or models stand behind each share of a record."""

from __future__ import annotations

from collections.abc import Mapping

from bench.spec.cell import Flavour
from bench.spec.metrics import METRICS
from bench.spec.metrics.metric import Of
from bench.store.records import Record

ONCE = "company"
"""What only networks have that answer from their defender's process."""


def counted(record: Record, of: Flavour) -> Mapping[Of, int]:
    """What shares are of -> how many there were; 0 where the record does not say.

    ``"test"``: the images that the record was judged on, be it of another split. Input detectors,
    and networks that answer from their defender's process, are shown every image once, clean or
    triggered: half of each, but for chance.
    """
    poison = record.poison
    test, triggered = record.data.get(record.cell.split, 0), poison.get("triggered", 0)
    if of == "inputs" or ONCE in record.metrics:
        test, triggered = test // 2, triggered // 2
    found: dict[Of, int] = {
        "test": test,
        "triggered": triggered,
        "covers": poison.get("covers", 0),
        "model": 1,
        "uncounted": 0,
    }
    if of == "samples":
        poisoned = poison["poisoned_samples"]
        clean = poison["training_samples"] - poisoned - found["covers"]
        return found | {"positives": poisoned, "negatives": clean}
    if of == "inputs":
        return found | {"positives": triggered, "negatives": test}
    return found | {"positives": 1, "negatives": 1} if of == "model" else found


def trials_of(metric: str, numbers: Mapping[Of, int]) -> int | None:
    """Of one metric: 0 for a share of unknown number, None for what is no share."""
    about = METRICS.get(metric)
    if about is None or not about.is_share:
        return None
    return numbers.get(about.of, 0)  # 0 as well for what this flavour has none of
