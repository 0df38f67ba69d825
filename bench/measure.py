"""Resolve a cell, measure it: the whole way from a `Cell` to its `Record`, with no pytest in it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

from bench.judge.attacks import judge_attack
from bench.judge.common import poison_counts, split_counts
from bench.judge.defenses import judge_defense
from bench.runtime import files
from bench.runtime.costs import Cost
from bench.runtime.environment import environment
from bench.runtime.workspace import Workspace, usual
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.spec.data import dataset_of
from bench.spec.estimates import Estimates, cell_task
from bench.spec.identity import cell_identity, key
from bench.spec.job import Job, VictimJob, record_path, victim_job
from bench.store import records
from bench.store.records import BadRecord, Record
from bench.victims.controls import clean_twin, other_seed
from bench.victims.provide import provide
from bench.victims.train import build_attack
from fixtures.errors import NotApplicable
from fixtures.training import Progress


def resolve(
    cell: Cell, workspace: Workspace | None = None, estimates: Estimates | None = None
) -> Job:
    """What a cell needs, its identity, and where its record is kept. Trains and reads nothing.

    ``estimates``: what its expected cost is taken from. Raises BenchError, one line, for a plugin
    that cannot be built.
    """
    workspace = workspace or usual()
    victim = victim_job(cell, workspace)
    clean = other = None
    if cell.kind != "detection":
        attack = build_attack(cell, dataset_of(cell, workspace))
        clean = _control(clean_twin(cell, attack), workspace)
        if cell.kind == "attack":
            other = _control(other_seed(cell, attack), workspace)
    identity = cell_identity(cell, victim.identity)
    name = key(identity)
    return Job(
        cell=cell,
        workspace=workspace,
        victim=victim,
        clean=clean,
        other=other,
        identity=identity,
        key=name,
        path=record_path(workspace.cache, name),
        expected_s=None if estimates is None else estimates.seconds(cell_task(cell)),
    )


def _control(cell: Cell | None, workspace: Workspace) -> VictimJob | None:
    return None if cell is None else victim_job(cell, workspace)


def run(
    what: Job | Cell,
    workspace: Workspace | None = None,
    *,
    rerun: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Measure one cell: train or load its victims, run its defense, judge, and return the record.

    ``workspace``: for a cell that is not resolved yet, by default the user's cache and data folder.
    A cell of the same identity that was measured before on this machine is read from the cache,
    unless ``rerun``. Where the defense does not apply, the record says why and holds no metrics.
    Nothing is written but the cache. Raises BenchError, each one line.
    """
    job = resolve(what, workspace) if isinstance(what, Cell) else what
    record = None if rerun else cached(job)
    if record is None:
        record = _measure(job, progress)
        record.save(job.path)
    return record


def cached(job: Job) -> Record | None:
    """The job's record, if it was measured before on this machine and nothing has changed since.

    A damaged one is named in a warning and set aside.
    """
    if not job.is_measured:
        return None
    try:
        # Parameters that a plugin has anyway make another cell of the same identity.
        return dataclasses.replace(records.load(job.path), cell=job.cell, reused=True)
    except BadRecord as error:
        files.set_aside(job.path)
        warnings.warn(f"set aside and measured anew: {error}", stacklevel=2)
        return None


def _measure(job: Job, progress: Progress | None) -> Record:
    cell = job.cell
    received = provide(job.victim, progress=progress)
    attacked = received.judged_on(cell.split)
    clean, other = (
        None if needed is None else provide(needed, progress=progress).judged_on(cell.split)
        for needed in (job.clean, job.other)
    )
    reason = ""
    if cell.defense == "none":
        found, costs, details = judge_attack(attacked, clean, other)
    else:
        try:
            found, costs, details = judge_defense(cell, attacked, clean, job.workspace)
        except NotApplicable as error:
            found, costs, details, reason = {}, {}, {}, str(error)
    costs = {"train": received.training, **costs}
    return Record(
        cell=cell,
        key=job.key,
        identity=job.identity,
        metrics=found,
        timings={f"{phase}_s": spent.seconds for phase, spent in costs.items()},
        memory=_memory(costs),
        environment=environment(job.workspace.torch_device()),
        victim="trained" if received.trained else "loaded",
        poison=poison_counts(attacked),
        data=split_counts(received, defaults.budget(cell)),
        not_applicable=reason,
        details=details,
        kind=cell.kind,
    )


def _memory(costs: Mapping[str, Cost]) -> dict[str, float]:
    """MiB by phase: of the process, and of the GPUs where there were any in use."""
    found = {f"{phase}_mib": spent.peak_mib for phase, spent in costs.items()}
    return found | {f"{phase}_gpu_mib": c.gpu_mib for phase, c in costs.items() if c.gpu_mib}
