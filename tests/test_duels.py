"""Attackers who adapt beside their plain twins: what each takes away of what a defense achieves."""

from __future__ import annotations

import pytest

from attacks import ATTACKS
from bench.analysis.duels import rounds
from bench.analysis.series import measured
from bench.expected.duels import duels
from bench.report import duels as shown
from bench.spec import suites
from bench.spec.cell import flavour_of
from bench.spec.defaults import poison_rate
from bench.spec.opponents import defeated_by
from bench.spec.parameters import suffix
from defenses import DEFENSES, Repair, defense

AT = (("poison_rate", 0.003),)
"""What adaptive_blend poisons of MNIST."""


@pytest.fixture
def found(make_record):
    """Rounds of one duel: F1 against twin and attacker, or the ASR that a repair leaves."""

    def make(attack, twin, defense, plain, adaptive, *, asr=1.0, params=AT, metric="f1"):
        records = []
        for name, given, value, own in ((twin, params, plain, 1.0), (attack, (), adaptive, asr)):
            before = {"asr_before": own} if metric == "asr" else {}
            told = {"false_labels": 0.0} if metric == "f1" else {"der": 0.5}
            records += [
                make_record(
                    name, dataset="mnist", attack_params=given, asr=own, clean_accuracy=0.9
                ),
                make_record(
                    name,
                    defense,
                    dataset="mnist",
                    attack_params=given,
                    **{metric: value},
                    **before,
                    **told,
                ),
            ]
        return list(rounds(measured(records)))

    return make


@pytest.fixture
def table(found, monkeypatch):
    """The page's table of one duel."""

    def make(*told, **how):
        monkeypatch.setattr("bench.report.duels.rounds", lambda _measured: found(*told, **how))
        return shown.markdown(measured([]))

    return make


BLEND = ("adaptive_blend", "blended", "activation_clustering")


def test_what_is_taken_is_the_share_of_what_the_defense_achieved(found):
    (one,) = found(*BLEND, 0.8, 0.2)
    assert one.taken == pytest.approx(0.75)
    assert one.held


def test_half_at_least_must_be_taken(found):
    assert found(*BLEND, 0.8, 0.4)[0].held
    assert not found(*BLEND, 0.8, 0.41)[0].held


def test_an_attacker_whose_attack_is_lost_has_won_nothing(found, table):
    (one,) = found(*BLEND, 0.8, 0.0, asr=0.89)
    assert not one.held
    assert "does not reach the ASR" in table(*BLEND, 0.8, 0.0, asr=0.89)


@pytest.mark.parametrize("plain", [0.0, 0.49])
def test_a_defense_that_achieves_too_little_against_the_twin_has_nothing_to_lose(
    found, table, plain
):
    (one,) = found(*BLEND, plain, 0.0)
    assert one.taken is None
    assert not one.held
    assert "achieves too little against the twin" in table(*BLEND, plain, 0.0)


def test_a_repair_achieves_the_asr_that_it_takes_away(found, table):
    (one,) = found("pruning_aware", "pixel", "fine_pruning", 0.1, 0.6, params=(), metric="asr")
    assert (one.plain, one.adaptive) == (pytest.approx(0.9), pytest.approx(0.4))
    assert one.taken == pytest.approx(1 - 0.4 / 0.9)
    assert "ASR removed (%)" in table(
        "pruning_aware", "pixel", "fine_pruning", 0.1, 0.6, params=(), metric="asr"
    )


def test_the_twin_is_asked_for_with_as_much_poison(found):
    assert not found(*BLEND, 0.8, 0.2, params=())


def test_every_attack_that_is_made_against_defenses_has_its_duels():
    told = {duel.attack: set(duel.defenses) for duel in duels()}
    said = {name: set(ATTACKS[name].info.made_against) for name in ATTACKS.names()}
    assert told == {name: against for name, against in said.items() if against}
    for duel in duels():
        assert duel.twin in ATTACKS
        assert all(flavour_of(name) and name in DEFENSES for name in duel.defenses)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10_jpeg"])
def test_the_suite_holds_both_sides_of_every_duel(dataset):
    (suite,) = suites.named("duels")
    for duel in duels():
        rates = {poison_rate(dataset, name) for name in (duel.attack, duel.twin)}
        as_much = suffix({"poison_rate": poison_rate(dataset, duel.attack)})
        twin = duel.twin + (as_much if len(rates) > 1 else "")
        assert {duel.attack, twin} <= set(suite.attacks)
        assert set(duel.defenses) <= set(suite.defenses)


def test_a_defense_is_listed_with_the_attackers_that_were_made_against_it():
    with DEFENSES.temporary():

        @defense("doubtful", source="this test", defeated_by=("sig",))
        class Doubtful(Repair):
            """Repairs nothing."""

        assert defeated_by("doubtful") == ["sig"]
    assert defeated_by("fine_pruning") == ["lira"]  # of the other its own paper says it is stopped
    assert defeated_by("nad") == []
