"""A defense at a few settings, judged on validation images: the grid, the figures, the command."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from bench.__main__ import main
from bench.analysis.sensitivity import sensitivities
from bench.analysis.series import measured
from bench.harness import tuning
from bench.report import sensitivity
from bench.spec import grids
from bench.spec.cell import flavour_of
from bench.store import records
from defenses import DEFENSES, Repair, defense
from fixtures.errors import BenchError, PluginError

NAMES = DEFENSES.names()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_defense_declares_is_a_grid(name):
    grid = grids.declared(name)
    if grid is not None:
        assert () in grid.settings
        assert len(set(grid.settings)) == len(grid.settings) <= 9


def test_a_setting_names_what_is_not_at_its_default():
    grid = grids.given("fine_pruning", ["tolerance=0.02,0.1", "lr_scale=2.5,7.5"])
    assert grid.settings == [
        (),
        (("lr_scale", 7.5),),
        (("tolerance", 0.1),),
        (("lr_scale", 7.5), ("tolerance", 0.1)),
    ]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["tolerance=0,0.02,0.1,0.2"], "tolerance=0,0.02,0.1,0.2: 4 values, from 2 to 3 are tried"),
        (["tolerance=0.02"], "tolerance=0.02: 1 values"),
        (["tolerance=0.02,0.02"], "a value stands twice"),
        (["tolerance=0,0.1"], "tolerance=0,0.1: the default, 0.02, is not among them"),
        (["tolerence=0.1,0.02"], "no parameter 'tolerence' with a default .did you mean tolerance"),
        (["tolerance=0.02,0", "shift=2,1", "epochs=20,5"], "tolerance, shift, epochs: at most 2"),
        (["tolerance=0.02,0", "tolerance=0.02,0.1"], "'tolerance=0.02,0.1' stands twice"),
        (["tolerance"], "'tolerance' is not NAME=V1,V2,V3"),
        (["epochs=20,many"], "fine_pruning with {'epochs': 'many'}: "),
    ],
)
def test_a_grid_that_is_too_large_or_of_something_else_is_one_line(texts, said):
    with pytest.raises(BenchError, match=said) as found:
        grids.given("fine_pruning", texts)
    assert str(found.value).startswith("--param: ")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": (1, 2)}, "grid: size=1,2: the default, 3, is not among them"),
        ({"size": 3}, "is no mapping of names to lists of values"),
        (("size", 3), "is no mapping of names to lists of values"),
    ],
)
def test_a_declared_grid_that_is_none_names_the_defense(values, said):
    with DEFENSES.temporary():

        @defense("unlike_itself")
        class UnlikeItself(Repair):
            """Its grid is none."""

            grid = values

            def __init__(self, size: int = 3) -> None:
                self.size = size

        with pytest.raises(PluginError, match=f"'unlike_itself': .*{said}"):
            grids.declared("unlike_itself")


@pytest.mark.parametrize("name", ["fine_pruning", "activation_clustering"])
def test_a_defense_stands_beside_others_of_its_flavour_that_are_nulls_or_in_the_study(name):
    others = tuning.others(name)
    assert len(others) >= 2
    assert name not in others
    assert {flavour_of(other) for other in others} == {flavour_of(name)}
    assert any(DEFENSES[other].info.null for other in others)


@pytest.fixture
def made(make_record):
    """A record of a repair on validation images that nobody measured."""

    def make(der, defense="fine_pruning", attack="pixel", seed=0, clean=None, asr=1.0, **params):
        record = make_record(attack, defense, seed, clean=clean, der=der, asr_before=asr)
        cell = dataclasses.replace(record.cell, defense_params=params, split="validation")
        return dataclasses.replace(record, cell=cell, data={"validation": 70})

    return make


def only(found):
    (one,) = sensitivities(measured(found, "validation"))
    return one


def two_settings(made, attacks=("pixel", "noise"), **other):
    """The default at 0.6 and 0.8, another setting 0.1 better, on two attacks."""
    return [
        made(der + better, attack=attack, seed=seed, **params, **other)
        for seed, der in ((0, 0.6), (1, 0.8))
        for attack in attacks
        for better, params in ((0.0, {}), (0.1, {"tolerance": 0.1}))
    ]


def two_others(made):
    return [
        made(der, name, attack, seed)
        for name, der in (("fine_tuning", 0.5), ("anp", 0.9))
        for seed in (0, 1)
        for attack in ("pixel", "noise")
    ]


def test_the_best_setting_is_told_apart_by_victims_that_are_paired_with_themselves(made):
    one = only(two_settings(made))
    assert one.metric == "der"
    assert one.default.mean == pytest.approx(0.7)
    assert one.best.params == {"tolerance": 0.1}
    assert one.gain.mean == pytest.approx(0.1)
    assert one.gain.n == 4
    assert one.is_told_apart  # though each varies by twice as much between seeds


def test_a_lead_that_victims_do_not_share_is_not_told_apart(made):
    leads = iter((0.3, -0.2, 0.25, -0.15))
    found = [
        made(0.6 + lead, attack=attack, seed=seed, **params)
        for seed in (0, 1)
        for attack in ("pixel", "noise")
        for lead, params in ((0.0, {}), (next(leads), {"tolerance": 0.1}))
    ]
    one = only(found)
    assert one.best.params == {"tolerance": 0.1}
    assert one.gain.mean == pytest.approx(0.05)
    assert not one.is_told_apart


def test_the_default_is_the_best_where_nothing_is_better(made):
    one = only([made(0.7), made(0.7, tolerance=0.1)])
    assert one.best is one.default
    assert not one.is_told_apart


def test_the_sensitivity_is_the_spread_over_the_grid_beside_that_between_defenses(made):
    one = only([*two_settings(made), *two_others(made)])
    assert one.spread == pytest.approx(0.1)
    assert one.between == pytest.approx(0.9 - 0.5)
    assert one.share == pytest.approx(0.25)
    assert [row.defense for row in one.others] == ["anp", "fine_tuning"]
    said = "\n".join(sensitivity.said(one))
    assert "25 % of the spread of 0.400 between defenses" in said


def test_the_spread_between_defenses_has_the_tuned_one_among_them(made):
    beside = [made(0.8, "anp"), made(0.9, "fine_tuning")]
    one = only([made(0.7), made(0.75, tolerance=0.1), *beside])
    assert one.between == pytest.approx(0.9 - 0.7)
    assert one.share == pytest.approx(0.25)


def test_with_fewer_than_two_other_defenses_no_share_is_said(made):
    few = [record for record in two_others(made) if record.cell.defense == "anp"]
    one = only([*two_settings(made), *few])
    assert (one.between, one.share) == (None, None)
    assert "cannot be said" in "\n".join(sensitivity.said(one))


def test_defenses_that_do_not_differ_give_no_share(made):
    same = [made(0.7, name) for name in ("anp", "fine_tuning")]
    one = only([made(0.7), made(0.8, tolerance=0.1), *same])
    assert (one.between, one.share) == (0, None)
    assert "no share can be said" in "\n".join(sensitivity.said(one))


def test_an_attack_that_did_not_take_is_left_out_and_named(made):
    one = only([*two_settings(made), *two_settings(made, attacks=["blur"], asr=0.07)])
    assert set(one.default.by_attack) == {"pixel", "noise"}
    assert one.left_out == ["blur: it did not take: ASR 7 %"]


def test_means_are_of_victims_on_which_every_setting_has_its_figure(made):
    found = two_settings(made)
    lost = next(r for r in found if r.cell.defense_params and r.cell.id.endswith("-s1"))
    one = only([record for record in found if record is not lost])
    assert len(one.default.values) == 3
    assert one.left_out == [f"{lost.cell.attack}, seed 1: not every setting has its figure"]


def test_another_defense_without_a_figure_on_every_victim_is_left_out(made):
    one = only([*two_settings(made), *two_others(made)[:-1]])
    assert [row.defense for row in one.others] == ["fine_tuning"]
    assert one.left_out == ["anp: it has no figure of some victims"]


def test_defenses_of_another_flavour_or_budget_do_not_stand_beside(made, make_record):
    detector = make_record("pixel", "activation_clustering", 0, f1=0.2, asr_before=1.0)
    detector.cell = dataclasses.replace(detector.cell, split="validation")
    richer = [made(0.2, "anp", clean=50), made(0.3, "fine_tuning")]
    one = only([made(0.7), made(0.8, tolerance=0.1), *richer, detector])
    assert [row.defense for row in one.others] == ["fine_tuning"]


def test_one_setting_alone_is_no_grid(made):
    found = [made(0.7), made(0.6, tolerance=0.1, seed=1)]
    assert sensitivities(measured(found, "validation")) == []
    assert sensitivities(measured([made(0.7, tolerance=0.1)], "validation")) == []


def test_settings_that_other_code_measured_are_named(made):
    found = two_settings(made)
    for record in found:
        if record.cell.defense_params:
            record.identity["code"]["defense"] = "another"
    assert only(found).differing == ["code of defense"]


def test_the_page_and_the_numbers_hold_every_setting(made, tmp_path):
    one = only([*two_settings(made), *two_others(made)])
    sensitivity.write([one], tmp_path)
    page = (tmp_path / "tuning-fine_pruning.md").read_text()
    assert "| fine_pruning | 0.02 |" in page
    assert "| fine_pruning | 0.1 |" in page
    assert "(digits-simplecnn-tuning-fine_pruning.png)" in page
    assert (tmp_path / "digits-simplecnn-tuning-fine_pruning.png").exists()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tuning-fine_pruning.csv").read_text())))
    assert [row["tolerance"] for row in rows] == ["0.02", "0.1", "", ""]
    assert [float(row["der"]) for row in rows] == pytest.approx([0.7, 0.8, 0.9, 0.5])
    assert [row["best"] for row in rows] == ["False", "True", "False", "False"]


def test_settings_stand_in_the_order_of_their_values(made, tmp_path):
    found = [made(0.5, tolerance=value) for value in (1.0, 0.1, 0.004)]
    sensitivity.write([only([*found, made(0.5)])], tmp_path)
    rows = csv.DictReader(io.StringIO((tmp_path / "tuning-fine_pruning.csv").read_text()))
    assert [row["tolerance"] for row in rows] == ["0.004", "0.02", "0.1", "1"]


def test_the_figure_has_a_point_for_each_setting_and_each_other_defense(made):
    one = only([*two_settings(made), *two_others(made)])
    (axes,) = sensitivity.figure(one).axes
    points = [float(line.get_xdata()[0]) for line in axes.lines]
    assert points == pytest.approx([0.5, 0.9, 0.8, 0.7])
    assert "25 %" in axes.get_title()


TUNE = [
    "tune", "activation_clustering", "--param", "uncertainty=0.3,0.6",
    *("--dataset", "tiny", "--attack", "pixel,patch", "--device", "cpu"),
]  # fmt: skip


def tune(folder, *more):
    return main([*TUNE, "--results-dir", str(folder), *more])


def test_tune_measures_on_validation_images_resumes_and_can_be_reported_again(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(tmp_path / "cache"))
    assert tune(tmp_path / "first") == 0
    told = capsys.readouterr().out
    assert "Best on validation: uncertainty " in told
    assert "from the cache" not in told
    found = records.load_all(tmp_path / "first")
    assert {record.cell.split for record in found} == {"validation"}
    assert {record.cell.seed for record in found} == {101, 102}
    assert {record.command.partition(" --")[0] for record in found} == {
        "python -m bench tune activation_clustering"
    }
    settings = {dict(r.cell.defense_params).get("uncertainty") for r in found}
    assert settings == {None, 0.3}

    assert tune(tmp_path / "second") == 0
    again = capsys.readouterr().out.splitlines()
    measured_now = [line for line in again if "/" in line.partition(" ")[0] and "-s10" in line]
    assert len(measured_now) == len(found)
    assert all(line.endswith("from the cache") for line in measured_now)
    page = (tmp_path / "first" / "tuning-activation_clustering.md").read_text()
    assert page == (tmp_path / "second" / "tuning-activation_clustering.md").read_text()

    assert main(["report", str(tmp_path / "first"), "--to", str(tmp_path / "third")]) == 0
    assert page == (tmp_path / "third" / "tuning-activation_clustering.md").read_text()
    assert not (tmp_path / "third" / "leaderboard.md").exists()


def test_a_cell_that_fails_is_one_line_and_exit_code_1(tmp_path, capsys, monkeypatch):
    def run(job):
        if job.cell.defense_params and job.cell.seed == 102 and job.cell.attack == "patch":
            raise BenchError("it broke")
        return measure(job)

    measure = tuning.run
    monkeypatch.setattr("bench.harness.tuning.run", run)
    assert tune(tmp_path) == 1
    told = capsys.readouterr().out
    assert "activation_clustering+uncertainty=0.3-validation-s102: it broke" in told
    assert "Left out: patch, seed 102: not every setting has its figure." in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fine_prunning"], "unknown defense 'fine_prunning' (did you mean fine_pruning"),
        (["neural_cleanse"], "neural_cleanse is judged by one verdict a model"),
        (
            ["confidence"],
            "confidence declares no grid: give one with --param NAME=V1,V2,V3; its parameters",
        ),
        (["fine_pruning", "--param", "shift=0,1,2,3"], "--param: shift=0,1,2,3: 4 values"),
        (["fine_pruning", "--attack", "p*,noise,blur"], "at most 3 attacks"),
        (["fine_pruning", "--attack", "none,pixel"], "--attack: none: on a clean model there"),
        (["fine_pruning", "--attack", "pixle"], "--attack: unknown attack 'pixle'"),
        (["fine_pruning", "--dataset", "tiny,digits"], "--dataset: tiny, digits: a grid is of one"),
        (["fine_pruning", "--clean", "10,50"], "--clean: 10,50: a grid is of one budget"),
        (["fine_pruning", "--clean", "few"], "--clean: 'few' is not"),
        (["fine_pruning", "--seeds", "many"], "--seeds: 'many' is neither"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(arguments, said, tmp_path, capsys):
    assert main(["tune", *arguments, "--results-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not any(tmp_path.iterdir())


def test_attacks_that_took_nowhere_leave_nothing_to_compare(tmp_path, capsys, monkeypatch):
    def weak(job):
        record = measure(job)
        record.metrics["asr_before"] = 0.2
        return record

    measure = tuning.run
    monkeypatch.setattr("bench.harness.tuning.run", weak)
    assert tune(tmp_path) == 2
    assert "nothing to compare: on no victim of an attack that took" in capsys.readouterr().err
