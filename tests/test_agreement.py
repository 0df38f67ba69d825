"""What carries over from one study to another, of records that nobody measured."""

import pytest

from bench.analysis.agreement import agreements
from bench.analysis.series import measured
from bench.report import agreement

HERE = {"fine_tuning": 0.9, "fine_pruning": 0.8, "anp": 0.7, "nad": 0.6}
THERE = {"fine_tuning": 0.9, "fine_pruning": 0.8, "anp": 0.6, "nad": 0.7}


@pytest.fixture
def study(make_record):
    """Repairs with these DERs, which hardly differ by seed."""

    def make(dataset, scores, seeds=3, attack="pixel", asr=0.99):
        return [
            make_record(
                attack, defense, seed, dataset=dataset, der=der + 1e-3 * seed, asr_before=asr
            )
            for seed in range(seeds)
            for defense, der in scores.items()
        ]

    return make


def test_studies_that_agree_have_a_correlation_of_one_and_no_swap(study):
    (found,) = agreements(measured([*study("mnist", HERE), *study("digits", HERE)]))
    assert (found.of, found.attacks, found.correlation) == ("repair", ("pixel",), pytest.approx(1))
    assert (found.swapped, found.unsure) == ((), 0)


def test_a_pair_that_swaps_beyond_chance_is_named_the_better_of_the_reference_first(study):
    records = [*study("mnist", HERE, seeds=4), *study("digits", THERE)]
    (found,) = agreements(measured(records))
    assert found.studies == (("mnist", "simplecnn"), ("digits", "simplecnn"))
    assert found.swapped == (("anp", "nad"),)
    assert found.correlation == pytest.approx(0.8)
    text = agreement.markdown(measured(records))
    assert "| Repairs by DER | mnist / simplecnn | digits / simplecnn | pixel | 4 | 0.80 |" in text
    assert "| anp than nad | 0 of 6 pairs |" in text


def test_a_pair_that_swaps_within_chance_is_counted_and_not_named(study, make_record):
    noisy = [
        make_record("pixel", defense, seed, dataset="digits", der=der, asr_before=0.99)
        for defense, by_seed in {
            "fine_tuning": (0.9, 0.9), "fine_pruning": (0.8, 0.8),
            "anp": (0.4, 0.8), "nad": (0.8, 0.5),
        }.items()
        for seed, der in enumerate(by_seed)
    ]  # fmt: skip
    (found,) = agreements(measured([*study("mnist", HERE), *noisy]))
    assert (found.swapped, found.unsure) == ((), 1)


def test_the_study_with_the_most_records_is_held_against_each_other_one(study):
    records = [*study("digits", HERE), *study("mnist", HERE, seeds=4), *study("cifar10", HERE)]
    found = agreements(measured(records))
    assert [one.studies[0][0] for one in found] == ["mnist", "mnist"]
    assert {one.studies[1][0] for one in found} == {"digits", "cifar10"}


def test_only_attacks_that_took_in_both_count(study):
    records = [
        *study("mnist", HERE),
        *study("mnist", THERE, attack="noise"),
        *study("digits", HERE),
        *study("digits", THERE, attack="noise", asr=0.1),
    ]
    (found,) = agreements(measured(records))
    assert found.attacks == ("pixel",)


def test_a_defense_that_lacks_an_attack_does_not_count(study):
    fewer = {name: der for name, der in HERE.items() if name != "anp"}
    both = [*study("mnist", HERE), *study("mnist", HERE, attack="noise"), *study("digits", HERE)]
    (found,) = agreements(measured([*both, *study("digits", fewer, attack="noise")]))
    assert found.attacks == ("pixel", "noise")
    assert "anp" not in found.places


def test_two_defenses_have_no_ranks_to_correlate(study, tmp_path):
    two = {"fine_tuning": 0.9, "anp": 0.7}
    records = measured([*study("mnist", two), *study("digits", two)])
    assert agreements(records) == []
    assert "No two studies" in agreement.markdown(records)
    assert agreement.write(records, tmp_path) == []


def test_the_figure_is_drawn_where_studies_have_defenses_in_common(study, tmp_path):
    records = measured([*study("mnist", HERE, seeds=4), *study("digits", THERE)])
    (path,) = agreement.write(records, tmp_path)
    assert path.name == "agreement.png"
    assert path.read_bytes().startswith(b"\x89PNG")
