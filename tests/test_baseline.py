from __future__ import annotations

import importlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from bench.__main__ import main
from bench.analysis import baseline
from bench.analysis.accepted import accepted, load, save
from bench.analysis.baseline import allowance, better_of, compare
from bench.analysis.series import measured
from bench.analysis.statistics import Estimate
from bench.expected import expectations, gate_files
from bench.expected.expectations import tolerance
from bench.report import comparison
from bench.runtime import files
from fixtures.errors import BenchError


@pytest.fixture
def cell(make_record):
    """One accepted cell from the values of a metric over seeds."""

    def make(values, metric="asr", *, attack="pixel", defense="fine_pruning", **more):
        made = [
            make_record(attack, defense, seed, **{metric: value}, **more)
            for seed, value in enumerate(values)
        ]
        return accepted(measured(made))

    return make


def verdict(before, after):
    (found,) = compare(before, after)
    return found.verdict


def test_within_the_tolerance_a_cell_is_ok(cell):
    assert tolerance("digits")["asr"] == 0.05
    assert verdict(cell([0.10]), cell([0.149])) == "ok"
    assert verdict(cell([0.10]), cell([0.151])) == "regressed"
    assert verdict(cell([0.10]), cell([0.049])) == "improved"


def test_exactly_the_tolerance_is_still_ok(cell):
    assert verdict(cell([0.1]), cell([0.15])) == "ok"


def test_the_accepted_spread_widens_the_rule_and_a_new_one_does_not(cell):
    steady, spread = [0.10, 0.10, 0.10], [0.06, 0.10, 0.14]
    assert verdict(cell(steady), cell([0.2, 0.2, 0.2])) == "regressed"
    assert verdict(cell(spread), cell([0.2, 0.2, 0.2])) == "ok"
    assert verdict(cell(steady), cell([0.0, 0.0, 0.6])) == "regressed"


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_the_false_alarm_rate_is_as_documented(tolerance):
    """Nothing changed but the seeds: at most one alarm in a hundred, whatever the tolerance."""
    draw = np.random.default_rng(0)
    trials, alarms = 20_000, 0
    for before, after in zip(
        draw.normal(size=(trials, 3)), draw.normal(size=(trials, 3)), strict=True
    ):
        old = Estimate(float(before.mean()), float(before.std(ddof=1)), 3)
        alarms += after.mean() - before.mean() > allowance(tolerance, old, 3)
    rate, error = alarms / trials, 3 * math.sqrt(0.01 * 0.99 / trials)
    assert rate <= 0.01 + error
    if tolerance == 0:
        assert rate >= 0.01 - error


def test_one_accepted_seed_has_a_tolerance_and_no_spread():
    assert allowance(0.02, Estimate(0.5, None, 1), 3) == 0.02
    assert allowance(0.02, Estimate(0.5, 0.0, 3), 3) == 0.02


def test_seeds_that_agree_at_the_limit_do_not_forbid_a_single_image():
    """Of 3 times 359 images none was called wrong; one of the next 359 is no regression."""
    perfect = Estimate(1.0, 0.0, 3, 3 * 359)
    assert allowance(0.0, perfect, 3) > 1 / 359
    assert allowance(0.0, perfect, 3) < 0.03
    assert allowance(0.0, Estimate(1.0, 0.0, 3, 3), 3) > 1, "three verdicts promise nothing"


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999, 1.0])
def test_the_false_alarm_rate_of_shares_holds_near_their_limits(share):
    """Seeds that differ by chance over their images alone, at most one alarm in a hundred."""
    draw = np.random.default_rng(0)
    before, after = draw.binomial(359, share, size=(2, 4000, 3)) / 359
    alarms = 0
    for old, new in zip(before, after, strict=True):
        accepted_ = Estimate(float(old.mean()), float(old.std(ddof=1)), 3, 3 * 359)
        alarms += old.mean() - new.mean() > allowance(0.0, accepted_, 3) + 1e-12
    assert alarms / 4000 <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 4000)


@pytest.mark.parametrize(
    ("attack", "defense", "metric", "better"),
    [
        ("pixel", "none", "asr", "higher"),
        ("pixel", "none", "asr_clean_model", "lower"),
        ("pixel", "none", "clean_accuracy", "higher"),
        ("none", "none", "asr", "lower"),
        ("pixel", "fine_pruning", "asr", "lower"),
        ("pixel", "activation_clustering", "f1", "higher"),
        ("pixel", "activation_clustering", "fpr", "lower"),
    ],
)
def test_better_is_what_the_cell_is_there_for(cell, attack, defense, metric, better):
    (one,) = cell([0.5], metric, attack=attack, defense=defense).values()
    assert better_of(metric, one) == better


def test_an_attack_that_stops_working_has_regressed(cell):
    assert verdict(cell([0.99], defense="none"), cell([0.5], defense="none")) == "regressed"
    assert verdict(cell([0.5], defense="none"), cell([0.99], defense="none")) == "improved"


def test_a_metric_that_is_no_longer_measured_has_regressed(cell):
    (found,) = compare(cell([0.1]), cell([0.9], "clean_accuracy"))
    assert found.verdict == "regressed"
    assert found.why == ["asr was not measured"]


def test_new_and_missing_cells_are_told_apart(cell):
    before, after = cell([0.1]), cell([0.1], attack="noise")
    found = {c.name: c.verdict for c in compare(before, after)}
    assert found == {
        "digits-simplecnn-pixel-fine_pruning": "missing",
        "digits-simplecnn-noise-fine_pruning": "new",
    }
    assert [c.verdict for c in compare(before, after, wanted=lambda _: False)] == ["new"]


def test_another_question_is_not_comparable_and_names_what_differs(cell):
    before, after = cell([0.1]), cell([0.9])
    (one,) = after.values()
    one.identity["asked"]["recipe"] = {"epochs": 3}
    (found,) = compare(before, after)
    assert found.verdict == "not comparable"
    assert found.why == ["recipe epochs 2 -> 3"]


def test_changed_code_is_compared_and_named(cell):
    (found,) = compare(cell([0.1]), cell([0.9], code="2"))
    assert found.verdict == "regressed"
    assert found.changed == ["code of attack"]
    assert found.why == ["asr 10.00 -> 90.00 (allowed 5.00)"]


def test_records_of_two_identities_are_not_accepted_as_one_cell(make_record):
    mixed = [make_record(seed=0, asr=0.9), make_record(seed=1, asr=0.9, code="2")]
    with pytest.raises(BenchError, match=r"digits-simplecnn-pixel: its records are of different"):
        accepted(measured(mixed))


def test_what_fails_a_run():
    found = [
        SimpleNamespace(verdict=v)
        for v in ("ok", "improved", "new", "regressed", "missing", "not comparable")
    ]
    assert [c.verdict for c in baseline.failing(found, strict=False)] == ["regressed", "missing"]
    assert len(baseline.failing(found, strict=True)) == 3
    assert comparison.verdict_line(found, strict=False).startswith("FAIL: 1 regressed, 1 missing, ")
    assert comparison.verdict_line(found[:3], strict=True) == "PASS: 1 improved, 1 new, 1 ok"


def test_a_baseline_survives_the_disk(cell, tmp_path):
    before = cell([0.1, 0.2, 0.3])
    path = save(tmp_path / "baseline.json", before)
    assert load(path) == before
    (stored,) = json.loads(path.read_text())["cells"].values()
    assert stored["metrics"]["asr"] == {
        "mean": pytest.approx(0.2),
        "spread": pytest.approx(0.1),
        "n": 3,
        "trials": 0,
    }
    assert stored["seeds"] == [0, 1, 2]
    assert "seed" not in stored["identity"]["asked"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1}'])
def test_a_damaged_baseline_is_one_line(tmp_path, content, capsys):
    path = tmp_path / "baseline.json"
    path.write_text(content)
    assert main(["compare", str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert error.count("\n") == 1


def test_every_metric_with_a_direction_has_a_tolerance():
    from bench.spec.metrics import METRICS

    directed = {m.name for m in METRICS.values() if m.better}
    # RA goes with ASR; a detector's FPR on clean models is the FPR of the clean model's own cell.
    assert directed - set(tolerance("mnist")) == {"ra", "fpr_clean_model"}


@pytest.fixture
def folders(make_record, tmp_path):
    """Results of a run, and of a later one: the repair got worse, one cell is gone, one is new."""

    def save(name, *made):
        for record in made:
            record.save(record.path(tmp_path / name))
        return str(tmp_path / name)

    before = save(
        "before", make_record(defense="fine_pruning", asr=0.1), make_record("noise", asr=0.9)
    )
    after = save(
        "after", make_record(defense="fine_pruning", asr=0.4), make_record("blur", asr=0.9)
    )
    return before, after


def test_compare_tells_each_cell_and_fails(folders, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    assert main(["compare", *folders]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "regressed      digits-simplecnn-pixel-fine_pruning: asr 10.00 -> 40.00 (allowed 5.00)",
        "missing        digits-simplecnn-noise: it has no record, or its defense no longer applies",
        "new            digits-simplecnn-blur",
        "verdict: FAIL: 1 regressed, 1 missing, 1 new",
    ]
    summary = (tmp_path / "step.md").read_text()
    assert summary.startswith("### triggerbench: FAIL: 1 regressed, 1 missing, 1 new")
    assert "| digits-simplecnn-pixel-fine_pruning | regressed " in summary
    assert main(["compare", folders[0], folders[0]]) == 0


def test_accept_writes_the_baseline_and_says_what_changes(folders, capsys, tmp_path):
    path = tmp_path / "results" / "baseline.json"
    assert main(["accept", folders[0], "--to", str(path)]) == 0
    assert "2 cells of 2 records" in capsys.readouterr().out
    assert main(["compare", str(path), folders[0]]) == 0
    assert main(["accept", folders[1], "--to", str(path)]) == 0
    assert "regressed      digits-simplecnn-pixel-fine_pruning" in capsys.readouterr().out
    assert main(["compare", str(path), folders[1]]) == 0


def test_accepting_one_data_set_leaves_the_others(folders, make_record, tmp_path, capsys):
    there = make_record("pixel", dataset="mnist", asr=0.9)
    there.save(there.path(tmp_path / "there"))
    path = tmp_path / "baseline.json"
    main(["accept", folders[0], str(tmp_path / "there"), "--to", str(path)])
    assert main(["accept", folders[1], "--to", str(path)]) == 0
    out = capsys.readouterr().out
    assert "removed        digits-simplecnn-noise" in out
    assert "1 cells of other data sets stay as they are" in out
    assert set(load(path)) == {
        "digits-simplecnn-pixel-fine_pruning",
        "digits-simplecnn-blur",
        "mnist-simplecnn-pixel",
    }


def test_accept_speaks_of_gates_as_the_tables_do(make_record, tmp_path, capsys, monkeypatch):
    """One seed misses the gate and the mean holds it: the cell passes."""
    for held in (expectations, gate_files):  # the default bound of an attack is 0.5
        monkeypatch.setattr(held, "FOLDER", tmp_path)
    for seed, value in enumerate((0.4, 0.7)):
        record = make_record(seed=seed, asr=value)
        record.save(record.path(tmp_path))
    main(["accept", str(tmp_path), "--to", str(tmp_path / "baseline.json")])
    assert "a gate fails" not in capsys.readouterr().out
    worse = make_record(seed=1, asr=0.5)
    worse.save(worse.path(tmp_path))
    main(["accept", str(tmp_path), "--to", str(tmp_path / "baseline.json")])
    assert "accepted although a gate fails: digits-simplecnn-pixel\n" in capsys.readouterr().out


def test_a_damaged_baseline_can_be_replaced(folders, tmp_path, capsys):
    path = tmp_path / "baseline.json"
    path.write_text("{")
    assert main(["accept", folders[0], "--to", str(path)]) == 0
    assert "replaced, and not compared: " in capsys.readouterr().out
    assert len(load(path)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"mean": math.nan},
        {"mean": "0.1"},
        {"spread": None, "n": 2},
        {"spread": 0.0, "n": 1},
        {"spread": math.inf},
        {"trials": -1},
        {"n": 0},
    ],
)
def test_a_figure_that_would_pass_everything_is_refused(cell, tmp_path, change):
    path = save(tmp_path / "baseline.json", cell([0.1, 0.2]))
    content = json.loads(path.read_text())
    (stored,) = content["cells"].values()
    stored["metrics"]["asr"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match=r"baseline.json: not a baseline"):
        load(path)


def test_a_model_detectors_false_alarm_is_not_counted_twice(cell):
    more = {"attack": "none", "defense": "activation_clustering"}
    before = cell([0.0, 0.0, 0.0], "fpr", verdict_correct=1.0, **more)
    after = cell([0.0, 0.0, 1.0], "fpr", verdict_correct=1.0, **more)
    assert verdict(before, after) == "ok"


def test_a_folder_without_records_is_one_line(tmp_path, capsys):
    assert main(["accept", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no records (expected records.jsonl or records/*.json)\n"
    )


PIXEL = ("--dataset=tiny", "--attack=none,pixel", "--defense=none,nad")


@pytest.fixture
def accepted_run(bench, tmp_path):
    """A run on `tiny` and the baseline that was accepted from it."""
    bench(*PIXEL).assert_outcomes(passed=4)
    path = tmp_path / "baseline.json"
    assert main(["accept", str(tmp_path / "results"), "--to", str(path)]) == 0
    return path


def edit(path, name, change):
    content = json.loads(path.read_text())
    change(content["cells"][name])
    files.write(path, json.dumps(content))


def test_a_run_is_compared_with_its_baseline(bench, accepted_run, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    same = bench(*PIXEL, "--baseline", str(accepted_run))
    assert same.ret == 0
    same.stdout.fnmatch_lines(["verdict   baseline: PASS: 4 ok"])
    assert "PASS: 4 ok" in (tmp_path / "step.md").read_text()

    name = "tiny-simplecnn-pixel-nad"
    edit(accepted_run, name, lambda cell: cell["metrics"]["clean_accuracy"].update(mean=0.999))
    worse = bench(*PIXEL, "--baseline", str(accepted_run))
    worse.assert_outcomes(passed=4)
    assert worse.ret == 1
    worse.stdout.fnmatch_lines(
        [
            f"baseline  regressed      {name}: clean_accuracy 99.90 -> * (allowed 0.50)",
            "verdict   baseline: FAIL: 1 regressed, 3 ok",
        ]
    )
    elsewhere = bench(*PIXEL, "--baseline", str(accepted_run), "-k", "attack")
    assert elsewhere.ret == 0
    elsewhere.stdout.fnmatch_lines(["verdict   baseline: PASS: 2 ok"])


def test_what_a_run_was_not_asked_for_is_not_missing(bench, accepted_run):
    arguments = (
        "--dataset=tiny",
        "--attack=none,pixel",
        "--defense=nad",
        "--poison-rate=0.3",
    )
    found = bench(*arguments, "--baseline", str(accepted_run))
    assert found.ret == 0
    found.stdout.fnmatch_lines(["verdict   baseline: PASS: 1 new, 1 ok"])


def test_an_attempt_that_fails_leaves_no_earlier_record(bench, accepted_run, tmp_path, monkeypatch):
    from bench.runtime.deadline import CellTimeout

    def stuck(*_args, **_kwargs):
        raise CellTimeout

    monkeypatch.setattr(importlib.import_module("bench.harness.celltest"), "run", stuck)
    found = bench(*PIXEL, "--cell-timeout=60", "--baseline", str(accepted_run))
    found.assert_outcomes(failed=4)
    assert not list((tmp_path / "results" / "records").iterdir())
    found.stdout.fnmatch_lines(["verdict   baseline: FAIL: 4 missing"])


def test_a_cell_that_vanished_is_missing_unless_the_run_left_it_out(bench, accepted_run):
    content = json.loads(accepted_run.read_text())
    gone = json.loads(
        json.dumps(content["cells"]["tiny-simplecnn-pixel"]).replace("pixel", "pixie")
    )
    content["cells"]["tiny-simplecnn-pixie"] = gone
    files.write(accepted_run, json.dumps(content))
    defenses = ("--dataset=tiny", "--defense=none,nad")
    found = bench("--attack", "none,p*l*", *defenses, "--baseline", str(accepted_run))
    assert found.ret == 0, "the globs leave pixie out"
    found = bench("--attack", "none,p*x*", *defenses, "--baseline", str(accepted_run))
    assert found.ret == 1
    found.stdout.fnmatch_lines(
        [
            "baseline  missing        tiny-simplecnn-pixie: it has no record, or *",
            "verdict   baseline: FAIL: 1 missing, 4 ok",
        ]
    )


def test_not_comparable_fails_only_a_strict_run(bench, accepted_run):
    name = "tiny-simplecnn-pixel"
    edit(accepted_run, name, lambda cell: cell["identity"]["asked"].update(fingerprint="another"))
    lenient = bench(*PIXEL, "--baseline", str(accepted_run))
    assert lenient.ret == 0
    lenient.stdout.fnmatch_lines([f"baseline  not comparable {name}: fingerprint another -> *"])
    strict = bench(*PIXEL, "--baseline", str(accepted_run), "--strict-baseline")
    assert strict.ret == 1
    strict.stdout.fnmatch_lines(["verdict   baseline: FAIL: 1 not comparable, 3 ok"])


def test_the_verdict_is_the_same_under_workers(shell, accepted_run):
    edit(
        accepted_run,
        "tiny-simplecnn-none",
        lambda cell: cell["metrics"]["clean_accuracy"].update(mean=0.9999),
    )
    done = shell(*PIXEL, "-p", "undrawn", "-n", "2", "--baseline", str(accepted_run))
    assert done.returncode == 1
    assert "verdict   baseline: FAIL: 1 regressed, 3 ok" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "nowhere.json"], "--baseline: *nowhere.json: No such file or directory"),
        (["--strict-baseline"], "--strict-baseline: there is no --baseline to be strict about"),
    ],
)
def test_a_baseline_that_is_not_there_is_one_line(bench, arguments, message):
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_junit_carries_every_metric(bench, tmp_path):
    import xml.etree.ElementTree as ET

    bench("--dataset=tiny", "-k", "pixel and nad", f"--junit-xml={tmp_path / 'junit.xml'}")
    (case,) = ET.parse(tmp_path / "junit.xml").iter("testcase")
    found = {p.get("name"): p.get("value") for p in case.iter("property")}
    (path,) = (tmp_path / "results" / "records").glob("*.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert {name: float(found[name]) for name in metrics} == metrics
