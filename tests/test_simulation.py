"""A cluster that nobody has, replayed with the order of the real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cluster.simulation import Cluster, Study, cross, simulate
from bench.speed import fleet

STUDY = Study("one", [10.0, 20.0, 30.0], [(1.0, True), (2.0, False)], 3.0, 1e6, 0.0)
IDEAL = Cluster(nodes=1, slots=1, bandwidth=1e18, beside=0.0)


def replayed(cluster=IDEAL, study=STUDY, attacks=3, defenses=3, seeds=2):
    jobs, took, studies = cross([study], attacks, defenses, seeds)
    return simulate(jobs, took, studies, cluster)


def test_a_cross_has_every_cell_and_a_victim_for_each_attack_and_seed():
    jobs, took, _ = cross([STUDY, replace(STUDY, name="two")], attacks=5, defenses=4, seeds=3)
    assert len(jobs) == 2 * 5 * 4 * 3
    assert len(took) == len(jobs) + 2 * 5 * 3
    assert len({job.cell for job in jobs}) == len(jobs)


def test_one_slot_takes_as_long_as_all_the_work():
    found = replayed()
    assert found.work == 2 * (10 + 20 + 30 + 3 * (3 + 1 + 2))
    assert found.makespan == pytest.approx(found.work)
    assert found.used == pytest.approx(1)
    assert found.moved == 0


@pytest.mark.parametrize("nodes", [2, 3, 7, 100])
def test_more_nodes_are_quicker_and_never_than_the_bound(nodes):
    alone, found = replayed(), replayed(replace(IDEAL, nodes=nodes))
    assert found.bound <= found.makespan < alone.makespan
    assert found.makespan < 2 * found.bound  # Graham 1966: no list of tasks is worse


def test_the_longest_chain_is_a_training_and_a_cell_that_needs_it():
    assert replayed().chain == 30 + 3


def test_victims_travel_once_to_each_node_that_needs_them():
    found = replayed(replace(IDEAL, nodes=100))
    jobs, _, _ = cross([STUDY], 3, 3, 2)
    assert 0 < found.moved <= 1e6 * sum(len(job.needs) for job in jobs)
    slow = replayed(replace(IDEAL, nodes=100, bandwidth=1e6))
    assert slow.makespan > found.makespan


def test_tasks_and_data_sets_cost_what_they_cost_beside_the_work():
    assert replayed(replace(IDEAL, beside=1.0)).makespan == pytest.approx(
        replayed().work + 2 * 3 + 2 * 9
    )
    assert replayed(study=replace(STUDY, reading=7.0)).makespan == pytest.approx(
        replayed().work + 7
    )


def test_costs_come_from_the_committed_records():
    some = fleet.studies(fleet.Path("results"))
    assert [study.name for study in some][:2] == ["mnist / simplecnn", "cifar10_jpeg / vgg_small"]
    for study in some:
        assert len(study.trainings) > 4
        assert len(study.cells) > 10
        assert study.victim > 1e6
    large = fleet.imagenet(some[1])
    assert large.trainings[0] == fleet.IMAGENET_S
    assert large.cells[0][0] / large.trainings[0] == pytest.approx(
        some[1].cells[0][0] / some[1].trainings[0]
    )
