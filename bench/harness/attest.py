"""Does changed code still measure the same? If so, what it had measured before is kept.

A change that means something, say a renamed variable, gives every run that it shaped another
identity, though its figures may be the same. `attest` measures some of those runs again, the
canaries, and carries all of them over to their new identities if every canary is equal to the last
digit. Nothing is carried where one is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from attacks import Attack
from bench.measure import resolve, run
from bench.runtime import files
from bench.runtime.workspace import Workspace
from bench.spec.cell import Cell, flavour_of
from bench.spec.data import dataset_of
from bench.spec.identity import differences
from bench.spec.job import Job, VictimJob, record_path, victim_job
from bench.store import collect, records
from bench.store.records import BadRecord, Record
from bench.victims import store
from bench.victims.train import build_attack
from fixtures.errors import BenchError

Feature = tuple[str, ...]
"""Something that a canary must have: changed code, or what sort of run it is."""

HOOKS = (
    "prepare", "choose", "stamp", "on_batch", "penalty", "on_epoch", "trigger_parameters", "tamper",
    "aim", "applies",
)  # fmt: skip
"""What an attack may do otherwise than others: a change may move only those that do."""


@dataclass(frozen=True)
class Stale:
    """A record whose code has changed since, and the job that its cell is now."""

    record: Record
    job: Job

    @property
    def features(self) -> set[Feature]:
        """Every changed piece of code; flavour, dtype and sort of trigger; data set, model and
        recipe; the attack's mapping and the hooks that it has of its own.
        """
        old, new = self.record.identity["code"], self.job.identity["code"]
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        code = {("code", name, str(old.get(name)), str(new.get(name))) for name in changed}
        cell = self.job.cell
        attack = build_attack(cell, dataset_of(cell, self.job.workspace))
        trigger = "learned" if attack.learned else "fixed"
        dtype = str(self.job.identity["machine"]["dtype"])
        hooks = (h for h in HOOKS if getattr(type(attack), h) is not getattr(Attack, h))
        return {
            *code,
            ("run", flavour_of(cell.defense), dtype, trigger),
            ("data", cell.dataset, cell.model, cell.recipe),
            ("mapping", attack.mapping),
            *(("hook", hook) for hook in hooks),
        }

    @property
    def seconds(self) -> float:
        """What measuring it took."""
        return sum(self.record.timings.values())


@dataclass(frozen=True)
class Survey:
    """``current``: records that today's code would make, or has made again. ``moved``: cells that
    it has made again with other figures. ``elsewhere``: records of another machine, of other
    versions or of another question, with what differs; they stay as they are.
    """

    stale: list[Stale]
    current: int
    moved: list[str]
    elsewhere: list[tuple[Record, list[str]]]


def survey(found: Iterable[Record], workspace: Workspace, names: Sequence[str] = ()) -> Survey:
    """Which of some records are stale. ``names``: plugins or globs of cell ids; none means all."""
    found = list(found)
    by_key = {record.key: record for record in found}
    stale: list[Stale] = []
    current, made_again, elsewhere = 0, [], []
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
        elif (newer := by_key.get(job.key)) is None:
            stale.append(Stale(record, job))
        elif newer.metrics == record.metrics:
            current += 1
        else:
            made_again.append(f"{record.cell.id}: measured again, with other figures")
    return Survey(stale, current, made_again, elsewhere)


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


def moved(canary: Stale, scratch: Workspace, stored: Mapping[str, Path]) -> list[str]:
    """What comes out otherwise when the canary is measured again, from nothing; empty for nothing.

    ``stored``: key of a victim under today's code -> the file of the older one, whose weights must
    be the same to the last bit.
    """
    try:
        job = resolve(canary.record.cell, scratch)
        again = run(job)
    except BenchError as error:
        return [str(error)]
    before, after = canary.record.metrics, again.metrics
    found = [
        f"{name} {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    found += [
        f"the weights of {victim.cell.id}"
        for victim in job.needs
        if victim.key in stored and not store.same(stored[victim.key], victim.path)
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
    lines += [f"moved: {line}" for line in found.moved]
    if not found.stale:
        lines.append(f"nothing to attest: {found.current} records are of the present code")
        return lines, not found.moved
    chosen, equal = canaries(found.stale), not found.moved
    victims = _older_victims(workspace, found.stale)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Workspace(workspace.data, Path(folder), workspace.device)
        for canary in chosen:
            changed = differences(canary.record.identity, canary.job.identity, "code")
            why = moved(canary, scratch, {key: path for key, (_, path) in victims.items()})
            verdict = f"moved: {'; '.join(why)}" if why else "equal to the last digit"
            lines.append(f"canary {canary.record.cell.id} ({', '.join(changed)}): {verdict}")
            equal = equal and not why
    if not equal:
        return [*lines, f"nothing is carried over: {len(found.stale)} records stay stale"], False
    new = {item.record.key: _carried(item) for item in found.stale}
    beside = ""
    if results is None:
        beside = f", {_carry_victims(victims)} victims"
        for key, record in new.items():  # the new file is whole before the old one goes
            record.save(record_path(workspace.cache, record.key))
            record_path(workspace.cache, key).unlink(missing_ok=True)
    else:
        _rewrite(results, new)
    return [*lines, f"carried over by {len(chosen)} canaries: {len(new)} records{beside}"], True


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


def _rewrite(results: Path, new: Mapping[str, Record]) -> None:
    """Both forms of a folder's records, as they are by now. ``new``: by the key they had."""
    packed = results / records.LINES
    with files.locked(packed):
        if packed.exists():
            found = records.load_lines(packed)
            collect.write([new.get(record.key, record) for record in found], packed)
        for record in new.values():
            if record.path(results).exists():
                record.save(record.path(results))


Older = dict[str, tuple[VictimJob, Path]]
"""Key of a victim under today's code -> its job, and the file that has it under older code."""


def _older_victims(workspace: Workspace, stale: Iterable[Stale]) -> Older:
    """Of the victims that the stale records need, those that are stored."""
    needed = {victim.key for item in stale for victim in item.job.needs}
    found: Older = {}
    for about in sorted((workspace.cache / "victims").glob("[!.]*.json")):
        try:
            content = json.loads(about.read_text())
            job = victim_job(Cell(**content["cell"]), workspace)
            other = differences(content["identity"], job.identity, "asked", "versions", "machine")
        except (OSError, ValueError, KeyError, TypeError, BenchError):
            continue  # damaged, or of a plugin that is gone: whoever needs it will say so
        if job.key in needed and not other and not job.is_trained:
            found[job.key] = job, about.with_suffix(".safetensors")
    return found


def _carry_victims(older: Older) -> int:
    """How many were stored under their new identity."""
    carried = 0
    for job, path in older.values():
        with files.locked(job.path):
            carried += store.carry(path, job)
    return carried
