"""Which kind of node measures which cells, and what a cell is there.

All seeds of an attack on a data set and model are one unit: nodes of one kind measure them, since
records of two kinds are never averaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.cluster.nodes import Kind, Node
from bench.spec.identity import Identity
from bench.spec.identity import key as key_of
from bench.spec.job import Job, VictimJob, record_path, victim_path

Unit = tuple[str, str, str]


def unit_of(task: Job | VictimJob) -> Unit:
    cell = replace(task.cell.undefended, seed=0)
    return cell.data_name, cell.model_name, cell.name


def on(job: Job, node: Node, cache: Path) -> Job:
    """The job as a node of that kind runs it: machine and versions are part of what it is."""

    def there(identity: Identity) -> Identity:
        versions = {name: node.about.versions[name] for name in identity["versions"]}
        return {**identity, "versions": versions, "machine": dict(node.about.machine)}

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


def can(node: Node, jobs: Iterable[Job]) -> bool:
    """Whether the node has every library that some jobs need."""
    return all(set(job.identity["versions"]) <= set(node.about.versions) for job in jobs)


def shared_out(
    units: Mapping[Unit, Sequence[Job]],
    power: Mapping[Kind, float],
    cost: Callable[[Job], float],
    able: Callable[[Kind, Sequence[Job]], bool] = lambda *_: True,
    stored: Callable[[Kind, Sequence[Job]], int] = lambda *_: 0,
    load: Mapping[Kind, float] | None = None,
) -> dict[Unit, Kind]:
    """The kind of node that measures each unit: the one with most of its records stored, else the
    one that is done with it first, longest units first. A unit that no kind is able to measure has
    none.

    ``power``: slots of each kind; ``load``: seconds that each has to do already.
    """
    busy = {kind: (load or {}).get(kind, 0.0) for kind in power}
    work = {unit: sum(map(cost, jobs)) for unit, jobs in units.items()}
    found: dict[Unit, Kind] = {}
    for unit in sorted(units, key=lambda unit: -work[unit]):
        jobs = units[unit]
        kinds = [kind for kind in power if power[kind] > 0 and able(kind, jobs)]
        if not kinds:
            continue
        ends = {kind: (busy[kind] + work[unit]) / power[kind] for kind in kinds}
        best = min(kinds, key=lambda kind: (-stored(kind, jobs), ends[kind]))
        busy[best] += work[unit]
        found[unit] = best
    return found


def units_of(jobs: Iterable[Job]) -> dict[Unit, list[Job]]:
    found: dict[Unit, list[Job]] = defaultdict(list)
    for job in jobs:
        found[unit_of(job)].append(job)
    return dict(found)
