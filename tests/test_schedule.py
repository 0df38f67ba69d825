"""Which cell a worker starts next: what is ready first, and none waits for another's training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import Cell
from bench.harness.schedule import Schedule, execute, in_order
from bench.measure import resolve
from bench.runtime.workspace import Workspace
from bench.spec.cell import cross
from defenses import DEFENSES, Repair
from fixtures.errors import PluginError

STUDY = ["none", "activation_clustering", "fine_pruning"]


@pytest.fixture
def jobs(tmp_path):
    """Jobs of digits for attacks and defenses, of which nothing is stored."""

    def jobs(attacks, defenses=STUDY, seeds=(0,)):
        workspace = Workspace(cache=tmp_path, device="cpu")
        cells = cross(["digits"], ["simplecnn"], attacks, defenses, seeds)
        return [resolve(cell, workspace) for cell in cells]

    return jobs


def train(job):
    """As if all its victims had been trained."""
    for victim in job.needs:
        victim.path.parent.mkdir(exist_ok=True)
        victim.path.with_suffix(".json").touch()


def names(jobs):
    return [f"{job.cell.attack}/{job.cell.defense}" for job in jobs]


def test_a_job_names_the_victims_that_it_needs(jobs):
    own, detected, repaired = jobs(["patch"], ["none", "activation_clustering", "fine_pruning"])
    assert [(v.cell.attack, v.cell.seed) for v in own.needs] == [
        ("patch", 0), ("none", 0), ("patch", 1),
    ]  # fmt: skip
    assert [(v.cell.attack, v.cell.seed) for v in detected.needs] == [("patch", 0)]
    assert [(v.cell.attack, v.cell.seed) for v in repaired.needs] == [("patch", 0), ("none", 0)]
    assert [v.cell.attack for v in jobs(["none"], ["none"])[0].needs] == ["none"]


def test_alone_a_worker_keeps_to_one_victim_after_another(jobs):
    ordered = names(in_order(jobs(["none", "pixel"])))
    assert ordered == [f"{attack}/{defense}" for attack in ("none", "pixel") for defense in STUDY]


def test_what_needs_fewer_trainings_comes_first(jobs):
    """Figures of attacks and repairs are taken on a clean model too, those of detectors not."""
    assert names(in_order(jobs(["pixel"]))) == [
        "pixel/activation_clustering", "pixel/none", "pixel/fine_pruning",
    ]  # fmt: skip


def test_two_workers_train_two_victims(jobs):
    schedule = Schedule(jobs(["none", "pixel", "noise"]))
    first, second = schedule.next("a"), schedule.next("b")
    assert names([first, second]) == ["none/none", "pixel/activation_clustering"]


def test_a_worker_is_not_given_what_another_one_trains(jobs):
    schedule = Schedule(jobs(["none"]))
    assert schedule.next("a").cell.attack == "none"
    assert schedule.next("b") is None
    assert len(schedule) == 2


def test_what_waits_for_another_worker_is_taken_where_there_is_a_victim_to_train_first(jobs):
    """Every repair waits for the clean model; two workers train two attacked ones meanwhile."""
    schedule = Schedule(jobs(["pixel", "noise"], ["fine_pruning"]))
    assert names([schedule.next("a"), schedule.next("b")]) == [
        "pixel/fine_pruning", "noise/fine_pruning",
    ]  # fmt: skip


def test_rather_than_idle_it_may_be_given_what_is_blocked(jobs):
    schedule = Schedule(jobs(["none"]))
    schedule.next("a")
    assert schedule.next("b", blocked=True) is not None


def test_a_cell_is_given_out_as_soon_as_its_victims_are_there(jobs):
    schedule = Schedule(jobs(["none", "pixel"]))
    clean = schedule.next("a")
    defended = schedule.next("b")
    train(clean)
    schedule.done(clean)
    train(defended)
    schedule.done(defended)
    assert schedule.next("b").cell.attack == "pixel"
    assert schedule.next("a").cell.attack == "none"
    assert schedule.next("c") is not None


def test_a_victim_that_failed_may_be_trained_by_another_worker(jobs):
    schedule = Schedule(jobs(["none"]))
    failed = schedule.next("a")
    schedule.done(failed)
    assert schedule.next("b") is not None


def test_a_job_whose_worker_is_gone_comes_next(jobs):
    schedule = Schedule(jobs(["none", "pixel"]))
    lost = schedule.next("a")
    schedule.again(lost)
    assert schedule.next("b") is lost


def test_victims_that_are_stored_need_no_training(jobs):
    given = jobs(["none", "pixel"], ["strip"])
    train(given[1])
    assert names(in_order(given)) == ["none/strip", "pixel/strip"]
    assert names([Schedule(given).next("a")]) == ["pixel/strip"]


def test_every_job_is_given_out_once_whatever_the_workers(jobs):
    given = jobs(["none", "pixel", "patch"], seeds=(0, 1))
    schedule, got = Schedule(given), []
    while len(schedule):
        for worker in "abc":
            job = schedule.next(worker, blocked=True)
            if job is not None:
                got.append(job)
                train(job)
                schedule.done(job)
    assert sorted(job.cell.id for job in got) == sorted(job.cell.id for job in given)


def test_an_executor_measures_every_job_and_hands_out_each_record(workspace):
    cells = cross(["tiny"], ["simplecnn"], ["none", "pixel"], ["none", "strip"], [0])
    given = [resolve(cell, workspace) for cell in cells]
    with ThreadPoolExecutor(1) as executor:
        found = list(execute(given, executor, workers=1))
    assert {record.key for record in found} == {job.key for job in given}


def test_an_executor_raises_what_a_cell_raises(workspace):
    class Broken(Repair):
        """Fails."""

        def repair(self, view):
            raise ValueError("on purpose")

    with DEFENSES.temporary(), ThreadPoolExecutor(1) as executor:
        DEFENSES.register("broken")(Broken)
        job = resolve(Cell("tiny", attack="pixel", defense="broken"), workspace)
        with pytest.raises(PluginError, match="on purpose"):
            list(execute([job], executor, workers=1))
