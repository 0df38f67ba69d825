"""Which kind of node measures which cells, and what a cell is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cluster.nodes import Kind, Node
from bench.spec.identity import key as key_of
from bench.spec.job import Job, VictimJob, record_path, victim_path


def on(job: Job, kind: Node, cache: Path) -> Job:
    """The job as a node of that kind runs it: machine and versions are part of what it is."""

    def there(identity: Any) -> Any:
        versions = {n: kind.about.versions.get(n, v) for n, v in identity["versions"].items()}
        return {**identity, "versions": versions, "machine": dict(kind.about.machine)}

    def victim(given: VictimJob) -> VictimJob:
        identity = there(given.identity)
        key = key_of(identity)
        return replace(given, identity=identity, key=key, path=victim_path(cache, key))

    identity = there(job.identity)
    key = key_of(identity)
    return replace(
        job,
        victim=victim(job.victim),
        clean=job.clean and victim(job.clean),
        other=job.other and victim(job.other),
        identity=identity,
        key=key,
        path=record_path(cache, key),
    )


def shared_out(jobs: Iterable[Job], power: Mapping[Kind, float], cost: Callable[[Job], float]
               ) -> dict[Kind, list[Job]]:  # fmt: skip
    """Jobs by the kind of node that runs them: all seeds of an attack on one kind, since records
    of two kinds are never averaged. Longest first, each to the kind that is done with it first.

    ``power``: slots of each kind.
    """
    units: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        cell = replace(job.cell.undefended, seed=0)
        units[cell.data_name, cell.model_name, cell.name].append(job)
    load = dict.fromkeys(power, 0.0)
    found: dict[Kind, list[Job]] = {kind: [] for kind in power}
    work = {unit: sum(map(cost, some)) for unit, some in units.items()}
    for unit in sorted(units, key=lambda unit: -work[unit]):
        kind = min(power, key=lambda kind: (load[kind] + work[unit]) / power[kind])
        load[kind] += work[unit]
        found[kind] += units[unit]
    return found
