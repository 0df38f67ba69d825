from __future__ import annotations

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context

import pytest
import torch

from bench import Cell, run
from bench.analysis.gates import judged, verdict
from bench.harness.schedule import execute
from bench.measure import resolve
from bench.runtime.workspace import Workspace
from bench.store import records
from bench.store.records import BadRecord
from defenses import (
    DEFENSES,
    InputDetector,
    ModelDetector,
    ModelVerdict,
    defense,
)
from fixtures.errors import BenchError, UnknownName


@pytest.mark.parametrize(
    ("attack", "asr", "on_clean"),  # of 322 images: three, or six
    [
        ("pixel", 0.95, 0.01),
        ("noise", 0.9, 0.01),
        ("patch", 0.95, 0.02),
        ("blur", 0.5, 0.02),
    ],
)
def test_every_attack_works_where_it_may_poison_a_tenth(attack, asr, on_clean, workspace):
    """At 3 % of 1,368 digits there are 41 poisons; a tenth shows what a trigger can do."""
    cell = Cell("digits", attack=attack, attack_params={"poison_rate": 0.1})
    figures = run(cell, workspace).metrics
    assert figures["asr"] >= asr
    assert figures["asr_clean_model"] <= on_clean
    assert figures["clean_accuracy"] >= 0.95
    assert figures["asr"] + figures["ra"] <= 1


def test_a_clean_model_has_no_backdoor(workspace):
    figures = run(Cell("digits"), workspace).metrics
    assert figures["asr"] <= 0.01
    assert figures["changed"] == 0


def test_clustering_finds_the_poison_and_leaves_the_clean_model_alone(workspace):
    cell = Cell("digits", attack="pixel", defense="activation_clustering")
    found = run(cell, workspace)
    # How much it finds depends on the target, which every seed draws: F1 has no gate.
    assert [gate.bound.metric for gate in judged([found])] == ["false_labels"]
    clean = run(Cell("digits", defense="activation_clustering"), workspace)
    assert [gate.bound.metric for gate in judged([clean])] == ["false_labels"]
    assert verdict([clean]) == "pass"
    assert found.metrics["auroc"] > 0.9
    assert found.metrics["f1"] > 0.5
    assert "f1" not in clean.metrics


def test_fine_pruning_removes_the_backdoor(workspace):
    cell = Cell("digits", attack="pixel", defense="fine_pruning")
    record = run(cell, workspace)
    assert [gate.bound.metric for gate in judged([record])] == ["clean_accuracy", "asr"]
    assert verdict([record]) == "pass"
    assert record.metrics["asr"] < 0.5 < 0.9 <= record.metrics["asr_before"]
    assert [p["at"] for p in record.details["trajectory"]] == list(range(0, 65, 8))
    assert record.details["report"]["curve"][0]["pruned"] == 0


def test_only_a_learned_trigger_is_tried_on_another_victim(workspace):
    fixed = run(Cell("tiny", attack="pixel"), workspace).metrics
    learned = run(Cell("tiny", attack="patch"), workspace).metrics
    assert "asr_other_seed" not in fixed
    assert 0 <= learned["asr_other_seed"] <= 1


def test_the_same_cell_gives_the_same_figures_from_nothing(workspace, tmp_path):
    cell = Cell("tiny", attack="patch", defense="fine_pruning")
    first = run(cell, workspace)
    again = run(cell, Workspace(cache=tmp_path, device="cpu"))
    assert not again.reused
    assert again.metrics == first.metrics
    assert again.key == first.key


def test_a_measured_cell_is_reused_and_says_so(workspace):
    cell = Cell("tiny", attack="pixel", defense="activation_clustering")
    first, second = run(cell, workspace), run(cell, workspace)
    assert second.reused
    assert second.metrics == first.metrics
    assert second.timings == first.timings
    assert not run(cell, workspace, rerun=True).reused


def test_a_record_survives_the_disk(workspace, tmp_path):
    record = run(Cell("tiny", attack="pixel", defense="fine_pruning"), workspace)
    path = record.save(record.path(tmp_path))
    assert path == tmp_path / "records" / "tiny-simplecnn-pixel-fine_pruning-s0.json"
    content = json.loads(path.read_text())
    assert {"schema", "cell", "metrics", "timings", "environment", "poison"} <= set(content)
    loaded = records.load(path)
    assert (loaded.cell, loaded.metrics, loaded.poison) == (
        record.cell,
        record.metrics,
        record.poison,
    )
    assert {"torch", "threads", "dtype", "device", "cpu"} <= set(loaded.environment)


def test_a_report_whose_keys_are_no_text_survives_the_disk(make_record, tmp_path):
    record = make_record(details={"report": {0: "a", 10: "b", 9: "c"}})
    path = record.save(tmp_path / "record.json")
    assert records.load(path).details["report"] == {"0": "a", "10": "b", "9": "c"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 0}'])
def test_a_record_that_is_not_whole_is_named(content, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(content)
    with pytest.raises(BadRecord, match=str(path)):
        records.load(path)


def test_a_damaged_record_in_the_cache_is_measured_anew(workspace):
    cell = Cell("tiny", attack="pixel", defense="activation_clustering")
    first = run(cell, workspace)
    path = workspace.cache / "records" / f"{first.key}.json"
    path.write_text(path.read_text()[:100])
    with pytest.warns(UserWarning, match="set aside and measured anew"):
        again = run(cell, workspace)
    assert again.metrics == first.metrics
    assert path.with_name(path.name + ".damaged").exists()


def test_unknown_names_are_errors_before_anything_is_trained(tmp_path):
    at = Workspace(cache=tmp_path, device="cpu")
    with pytest.raises(UnknownName, match=r"unknown defense 'fine_purning' \(did you mean fine_p"):
        run(Cell("digits", attack="pixel", defense="fine_purning"), at)
    with pytest.raises(UnknownName, match="unknown attack 'pixle'"):
        run(Cell("digits", attack="pixle"), at)
    with pytest.raises(UnknownName, match="unknown model 'simplecn'"):
        run(Cell("digits", model="simplecn"), at)
    assert not (tmp_path / "victims").exists()


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(BenchError, match=r"device 'quantum' cannot be used here \("):
        run(Cell("tiny"), Workspace(cache=tmp_path, device="quantum"))


@pytest.fixture
def registered():
    """Plugins of the two kinds that have no built-in example yet."""

    with DEFENSES.temporary():

        @defense("cleanse_like", source="this test")
        class CleanseLike(ModelDetector):
            def inspect(self, view):
                anomaly = torch.zeros(view.num_classes)
                anomaly[0] = 3.0
                return ModelVerdict(anomaly, True, (0,))

        @defense("corner_gazer", source="this test")
        class CornerGazer(InputDetector):
            def calibrate(self, view):
                self.corner = 1 if view.shape[-1] < 28 else 3

            def screen(self, images):
                return images[..., -self.corner :, -self.corner :].mean(dim=(1, 2, 3))

        yield


@pytest.mark.usefixtures("registered")
def test_a_model_detector_is_judged_on_backdoored_and_on_clean_models(workspace):
    found = run(Cell("tiny", attack="pixel", defense="cleanse_like"), workspace, rerun=True)
    assert found.metrics.pop("asr_before") > 0.9
    right = float(found.poison["target"] == 0)  # another target for every seed, always 0 accused
    assert found.metrics == {"verdict_correct": 1.0, "suspicion": 3.0, "target_found": right}
    clean = run(Cell("tiny", defense="cleanse_like"), workspace, rerun=True)
    assert clean.metrics == {"verdict_correct": 0.0, "suspicion": 3.0, "fpr": 1.0}


@pytest.mark.usefixtures("registered")
def test_an_input_detector_is_judged_on_clean_and_triggered_inputs(workspace):
    found = run(Cell("tiny", attack="pixel", defense="corner_gazer"), workspace, rerun=True)
    assert found.metrics["auroc"] > 0.95
    assert found.metrics["tpr_at_5_fpr"] > 0.9


def test_any_executor_can_run_cells(workspace, tmp_path, monkeypatch):
    """No pytest in it: two processes share a cache, one trains the victim, the other waits."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    cells = [Cell("tiny", attack="pixel", defense=d) for d in ("none", "activation_clustering")]
    fresh = Workspace(cache=tmp_path, device="cpu")
    known = {"initializer": import_module, "initargs": ("tiny",)}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), **known) as pool:
        found = list(execute([resolve(cell, fresh) for cell in cells], pool, workers=2))
    assert {record.cell for record in found} == set(cells)
    assert [r.metrics for r in found] == [run(r.cell, workspace).metrics for r in found]
    assert not any(record.reused for record in found)
    assert {record.victim for record in found} == {"trained", "loaded"}
    assert len({record.timings["train_s"] for record in found}) == 1


def test_a_record_says_whether_its_victim_was_trained_or_loaded(tmp_path):
    at = Workspace(cache=tmp_path, device="cpu")
    first = run(Cell("tiny"), at)
    at.forget()  # as a new process would find it
    second = run(Cell("tiny"), at, rerun=True)
    assert (first.victim, second.victim) == ("trained", "loaded")
    assert first.timings["train_s"] == second.timings["train_s"]
    assert records.load(second.save(tmp_path / "record.json")).victim == "loaded"


def test_a_job_is_measured_without_resolving_it_again(workspace, monkeypatch):
    job = resolve(Cell("tiny", attack="pixel", defense="strip"), workspace)

    def again(*_):
        raise AssertionError("resolved again")

    for name in ("resolve", "cell_identity", "victim_job"):
        monkeypatch.setattr(f"bench.measure.{name}", again)
    monkeypatch.setattr("bench.spec.job.victim_identity", again)
    record = run(job, rerun=True)
    assert (record.key, record.identity) == (job.key, job.identity)
    assert run(job).reused


def test_jobs_travel_to_other_processes(workspace):
    job = resolve(Cell("tiny", attack="pixel"), workspace)
    assert pickle.loads(pickle.dumps(job)) == job


def test_a_cell_that_says_what_is_so_anyway_has_its_own_name_in_its_record(make_record, tmp_path):
    """The rate is what `digits` asks for: another cell, the same identity, one file for both."""
    at = Workspace(cache=tmp_path, device="cpu")
    plain = resolve(Cell("digits", attack="pixel", defense="strip"), at)
    said = resolve(replace(plain.cell, attack_params={"poison_rate": 0.04}), at)
    assert said.key == plain.key
    record = make_record(auroc=0.5)
    replace(record, cell=plain.cell, key=plain.key, identity=plain.identity).save(plain.path)
    assert run(plain).cell == plain.cell
    assert run(said).cell == said.cell
