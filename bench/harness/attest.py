"""Does changed code still measure the same? If so, what it had measured before is kept.

A change that means something, say a renamed variable, gives every run that it shaped another
identity, though its figures may be the same. `attest` measures some of those runs again, the
canaries, and carries all of them over to their new identities if every canary is equal to the last
digit. Nothing is carried where one is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from bench.measure import resolve, run
from bench.runtime import files
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell, flavour_of
from bench.spec.identity import Identity, differences
from bench.spec.job import Job, VictimJob, record_path, victim_job
from bench.store import collect, records
from bench.store.records import BadRecord, Record
from bench.victims import store
from bench.victims.train import build_attack
from fixtures import datasets
from fixtures.errors import BenchError

Feature = tuple[str, ...]
"""Something that a canary must have: changed code, or a flavour, dtype and sort of trigger."""


@dataclass(frozen=True)
class Stale:
    """A record whose code has changed since, and the job that its cell is now."""

    record: Record
    job: Job

    @property
    def features(self) -> set[Feature]:
        """Every changed piece of code, and what kind of run it is."""
        old, new = self.record.identity["code"], self.job.identity["code"]
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        code = {("code", name, str(old.get(name)), str(new.get(name))) for name in changed}
        cell = self.job.cell
        dataset = datasets.load(cell.dataset, self.job.workspace.data)
        trigger = "learned" if build_attack(cell, dataset).learned else "fixed"
        dtype = str(self.job.identity["machine"]["dtype"])
        return {*code, ("run", flavour_of(cell.defense), dtype, trigger)}

    @property
    def seconds(self) -> float:
        """What measuring it took."""
        return sum(self.record.timings.values())


@dataclass(frozen=True)
class Survey:
    """``current``: records that today's code would make. ``elsewhere``: those of another machine,
    of other versions or of another question, with what differs; they stay as they are.
    """

    stale: list[Stale]
    current: int
    elsewhere: list[tuple[Record, list[str]]]


def survey(found: Iterable[Record], workspace: Workspace, names: Sequence[str] = ()) -> Survey:
    """Which of some records are stale. ``names``: plugins or globs of cell ids; none means all."""
    stale: list[Stale] = []
    current, elsewhere = 0, []
    for record in found:
        if names and not any(_is_named(record.cell, name) for name in names):
            continue
        try:
            job = resolve(record.cell, workspace)
        except BenchError as error:
            elsewhere.append((record, [str(error)]))
            continue
        other = differences(record.identity, job.identity, "asked", "versions", "machine")
        if other:
            elsewhere.append((record, other))
        elif job.key == record.key:
            current += 1
        else:
            stale.append(Stale(record, job))
    return Survey(stale, current, elsewhere)


def _is_named(cell: Cell, name: str) -> bool:
    return name in (cell.dataset, cell.model, cell.attack, cell.defense) or fnmatchcase(
        cell.id, name
    )


def canaries(stale: Iterable[Stale]) -> list[Stale]:
    """The fewest that have every feature of all, as far as choosing the best next one finds it.

    Of equals the one that took least.
    """
    open_ = {item.record.key: (item, item.features) for item in stale}
    wanted: set[Feature] = set().union(*(features for _, features in open_.values()))
    chosen: list[Stale] = []
    while wanted:
        item, features = min(
            open_.values(), key=lambda pair: (-len(pair[1] & wanted), pair[0].seconds)
        )
        chosen.append(item)
        wanted -= features
    return chosen


def moved(canary: Stale, scratch: Workspace) -> list[str]:
    """What comes out otherwise when the canary is measured again, from nothing; empty for nothing.

    Raises BenchError where it cannot be measured.
    """
    job = resolve(canary.record.cell, scratch)
    again = run(job)
    before, after = canary.record.metrics, again.metrics
    found = [
        f"{name} {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    reasons = canary.record.not_applicable, again.not_applicable
    if reasons[0] != reasons[1]:
        found.append(f"not applicable: {reasons[0]!r} -> {reasons[1]!r}")
    details = canary.record.details  # committed records hold none
    if details and not found and details != json.loads(json.dumps(again.details)):
        found.append("its report, or what figures are drawn from")
    return found


def attest(
    workspace: Workspace, names: Sequence[str] = (), results: Path | None = None
) -> tuple[list[str], bool]:
    """Measure canaries, and carry records and victims over if all are equal to the last digit.

    ``names``: see `survey`. ``results``: a folder of results whose records are meant, instead of
    the cache's. Returns lines for people, and whether nothing moved. Raises BenchError, one line,
    for a name that no record has.
    """
    kept = _cached(workspace.cache) if results is None else records.load_all(results)
    for name in names:
        if not any(_is_named(record.cell, name) for record in kept):
            raise BenchError(f"attest: {results or workspace.cache}: no record of {name!r}")
    found = survey(kept, workspace, names)
    lines = [
        f"not attested here: {record.cell.id} ({'; '.join(why)})" for record, why in found.elsewhere
    ]
    if not found.stale:
        return [*lines, f"nothing to attest: {found.current} records are of the present code"], True
    chosen, equal = canaries(found.stale), True
    with tempfile.TemporaryDirectory() as folder:
        scratch = Workspace(workspace.data, Path(folder), workspace.device)
        for canary in chosen:
            changed = differences(canary.record.identity, canary.job.identity, "code")
            why = moved(canary, scratch)
            verdict = f"moved: {'; '.join(why)}" if why else "equal to the last digit"
            lines.append(f"canary {canary.record.cell.id} ({', '.join(changed)}): {verdict}")
            equal = equal and not why
    if not equal:
        return [*lines, f"nothing is carried over: {len(found.stale)} records stay stale"], False
    new = {item.record.key: _carried(item) for item in found.stale}
    if results is None:
        victims = f", {_carry_victims(workspace, found.stale)} victims"
        for key, record in new.items():  # the new file is whole before the old one goes
            record.save(record_path(workspace.cache, record.key))
            record_path(workspace.cache, key).unlink(missing_ok=True)
    else:
        victims = ""
        _rewrite(results, [new.get(record.key, record) for record in kept])
    return [*lines, f"carried over by {len(chosen)} canaries: {len(new)} records{victims}"], True


def _cached(cache: Path) -> list[Record]:
    """Every record in the cache but damaged ones: whoever needs those will say so."""
    found = []
    for path in sorted((cache / "records").glob("[!.]*.json")):
        try:
            found.append(records.load(path))
        except BadRecord:
            continue
    return found


def _carried(item: Stale) -> Record:
    """The record under its new identity; ``attested`` keeps the key that it was measured under."""
    record, job = item.record, item.job
    attested = record.attested or record.key
    return replace(record, key=job.key, identity=job.identity, attested=attested)


def _rewrite(results: Path, found: Sequence[Record]) -> None:
    """Both forms of a folder's records, where they are there."""
    if (results / records.LINES).exists():
        collect.write(found, results / records.LINES)
    for record in found:
        if record.path(results).exists():
            record.save(record.path(results))


def _carry_victims(workspace: Workspace, stale: Iterable[Stale]) -> int:
    """The stored victims of all code that the canaries prove; how many."""
    proven = {feature for item in stale for feature in item.features if feature[0] == "code"}
    carried = 0
    for about in sorted((workspace.cache / "victims").glob("[!.]*.json")):
        try:
            content = json.loads(about.read_text())
            job = victim_job(Cell(**content["cell"]), workspace)
            changed = _changed(content["identity"], job)
        except (OSError, ValueError, KeyError, TypeError, BenchError):
            continue  # damaged, or of a plugin that is gone: whoever needs it will say so
        if changed is None or job.is_trained or not changed <= proven:
            continue
        with files.locked(job.path):
            carried += store.carry(about.with_suffix(".safetensors"), job)
    return carried


def _changed(identity: Identity, job: VictimJob) -> set[Feature] | None:
    """The code that changed since a victim was trained; None where more than code did, or none."""
    if differences(identity, job.identity, "asked", "versions", "machine"):
        return None
    old, new = identity["code"], job.identity["code"]
    return {
        ("code", name, str(old.get(name)), str(new.get(name)))
        for name in {*old, *new}
        if old.get(name) != new.get(name)
    } or None
