"""An attack that did not take proves nothing of a defense: it says so, and counts nowhere."""

from __future__ import annotations

import pytest

from bench.analysis.heat import heat_maps
from bench.analysis.rows import rows
from bench.analysis.series import measured
from bench.analysis.studies import studies
from bench.analysis.taken import Taken
from bench.report import tables
from bench.spec.cell import Cell
from bench.spec.defaults import of_attack, recipe
from bench.spec.metrics import took
from fixtures import datasets


@pytest.fixture
def records(make_record):
    """Pixel takes, noise does not; a clean model beside them; one repair and one detector."""
    made = [make_record("none", asr=0.0, clean_accuracy=0.98)]
    for attack, asr in (("pixel", 0.99), ("noise", 0.07)):
        made.append(make_record(attack, asr=asr, clean_accuracy=0.98))
        repaired = {"asr_before": asr, "asr": 0.0, "clean_accuracy": 0.97, "der": 0.5 + asr / 2}
        made.append(make_record(attack, "fine_pruning", clean_accuracy_before=0.98, **repaired))
        f1 = 1.0 if asr > 0.5 else 0.1
        found = {"f1": f1, "tpr": f1, "fpr": 0.0, "auroc": f1, "false_labels": 0.0}
        made.append(make_record(attack, "activation_clustering", **found))
    return made


def failure(records):
    found = measured(records)
    return Taken(found).failure(*found.series)


def test_a_row_says_that_its_attack_did_not_take(records):
    for kind in ("attack", "repair", "detection"):
        found = rows(measured(records), kind)
        said = {row["attack"]: row["backdoor"] for row in found}
        said.pop("none", None)
        assert said == {"pixel": "", "noise": "did not take: ASR 7 %"}
        for brief in (True, False):
            assert tables.markdown(found, brief=brief).count("did not take: ASR 7 %") == 1


def test_it_is_in_no_mean_and_has_no_rank(records):
    (study,) = studies(measured(records))
    by_title = {table.title: table for table in study.tables}
    (repair,) = by_title["Repairs"].rows
    assert repair["DER, mean"].value == pytest.approx(0.995)
    assert repair["attacks"].text == "1 of 1"
    (detector,) = by_title["Detectors of poisoned samples"].rows
    assert detector["F1, mean"].value == 1.0
    ranks = {row["attack"].text: row["rank"].text for row in by_title["Attacks"].rows}
    assert ranks == {"pixel": "1", "noise": ""}


def test_the_heat_map_says_it_instead_of_a_figure(records):
    maps = {table.title: table for table in heat_maps(measured(records))}
    squares = {row["attack"].text: row["fine_pruning"] for row in maps["ASR after repair (%)"].rows}
    assert squares["noise"].text == "did not take: ASR 7 %"
    assert squares["noise"].value is None
    assert squares["pixel"].value == 0.0


def test_the_mean_over_seeds_decides(make_record):
    group = [make_record("pixel", seed=seed, asr=asr) for seed, asr in enumerate((0.2, 0.9))]
    assert failure(group) == ""
    assert failure(group[:1]) == "did not take: ASR 20 %"


def test_where_no_record_tells_nothing_is_said(make_record):
    alone = [make_record("pixel", "activation_clustering", f1=0.1, fpr=0.0)]
    assert failure(alone) == ""


@pytest.mark.parametrize(
    ("attack", "figures", "taken"),
    [
        ("pixel", {"asr": 0.5}, True),
        ("pixel", {"asr": 0.499}, False),
        ("pixel", {"asr_before": 0.9, "asr": 0.0}, True),
        ("pixel", {"asr_before": 0.1, "asr": 0.9}, False),
        ("none", {"asr": 0.0}, True),
        ("pixel", {}, True),
    ],
)
def test_the_victims_own_asr_tells(attack, figures, taken):
    assert took(attack, figures) == taken


def test_defaults_of_a_data_set_are_of_attacks_that_poison(monkeypatch, tmp_path):
    file = tmp_path / "defaults.toml"
    file.write_text(
        "[digits.recipe]\nmin_steps = 7\n[digits.attacks]\npoison_rate = 0.2\n"
        "[digits.attacks.noise]\namplitude = 0.5\n"
    )
    monkeypatch.setattr("bench.spec.defaults.FILE", file)
    assert recipe(Cell("digits"), datasets.load("digits")).min_steps == 7
    assert of_attack("digits", "pixel") == {"poison_rate": 0.2}
    assert of_attack("digits", "noise") == {"poison_rate": 0.2, "amplitude": 0.5}
    assert of_attack("digits", "none") == {}
    assert of_attack("mnist", "pixel") == {}
