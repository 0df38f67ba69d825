from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attacks import ATTACKS
from bench.__main__ import main
from bench.expected import expectations, gate_files
from bench.harness.settings import parse_seeds
from defenses import DEFENSES
from fixtures.datasets import DATASETS
from fixtures.errors import BenchError

PLUGINS = '''
import torch
from attacks import Attack, attack
from defenses import SampleDetector, SampleVerdict, defense


@attack("stripe", level=1, needs="data", source="a stranger")
class Stripe(Attack):
    """A white column at the right edge."""

    def forward(self, images):
        stamped = images.clone()
        stamped[..., -2:] = 1.0
        return stamped


@defense("edge_watcher", source="a stranger")
class EdgeWatcher(SampleDetector):
    """Flags what is bright at the right edge."""

    def detect(self, view):
        scores = view.suspect.images[..., -2:].mean(dim=(1, 2, 3))
        return SampleVerdict(scores, scores > 0.9)
'''


TINY = "--dataset=tiny"
"""Where no figure is looked at: a victim takes half a second, see plugins/tiny.py."""

STUDY = "--defense=none,activation_clustering,fine_pruning"
"""The seed study's defenses: enough to see how a run behaves."""


def ids(result) -> list[str]:
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


@pytest.fixture
def collected(bench):
    def collect(*arguments, **options):
        result = bench("--collect-only", "-q", *arguments, **options)
        return ids(result)

    return collect


def test_ids_read_as_people_say_them(collected):
    found = collected()
    assert "test_attack[digits-simplecnn-pixel-s0]" in found
    assert "test_detection[digits-simplecnn-pixel-activation_clustering-s0]" in found
    assert "test_repair[digits-simplecnn-patch-fine_pruning-s0]" in found
    assert len(found) == 30


def test_a_plugin_named_by_k_or_by_id_is_found_outside_the_study(collected):
    everything = len(DEFENSES.names()) + 1
    assert len(collected("-k", "wanet")) == everything
    assert len(collected("-k", "wanet and not repair")) < everything
    assert len(collected("-k", "not pixel and anp")) == len(ATTACKS.names()) - 1
    assert len(collected("-k", "not anp")) == 30
    assert collected("-k", "wanet", "--attack=wanet", "--defense=none") == [
        "test_attack[digits-simplecnn-wanet-s0]"
    ]


def test_k_selects_an_attack(collected):
    found = collected("-k", "patch", STUDY)
    tests = [name.partition("[")[0] for name in found if "-patch-" in name]
    assert tests == ["test_attack", "test_detection", "test_repair"]
    assert all("patch-" in name for name in found)


def test_k_selects_a_defense(collected):
    found = collected("-k", "fine_pruning")
    assert len(found) == len(ATTACKS.names())
    assert all(name.startswith("test_repair[") for name in found)


def test_k_combines(collected):
    assert collected("-k", "pixel and not repair", STUDY) == [
        "test_attack[digits-simplecnn-pixel-s0]",
        "test_detection[digits-simplecnn-pixel-activation_clustering-s0]",
    ]


def test_options_select_by_glob(collected):
    assert collected("--attack", "p[ai]*", "--defense", "none", "--seeds", "0,4") == [
        "test_attack[digits-simplecnn-pixel-s0]",
        "test_attack[digits-simplecnn-patch-s0]",
        "test_attack[digits-simplecnn-pixel-s4]",
        "test_attack[digits-simplecnn-patch-s4]",
    ]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", [0]), ("3", [0, 1, 2]), ("0,4,7", [0, 4, 7]), ("5,2", [5, 2]), ("4,", [4]), ("0,", [0])],
)
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1,1", "1.5", "", ",", "1,,", "0,-3"])
def test_other_seeds_are_one_clear_line(text):
    with pytest.raises(BenchError) as error:
        parse_seeds(text)
    assert str(error.value) == (
        f"--seeds: {text!r} is neither a count like 3 nor different seeds like 0,4,7"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--attack", "pixle"],
            "--attack: unknown attack 'pixle' (did you mean pixel?); known: "
            + ", ".join(ATTACKS.names()),
        ),
        (
            ["--defense", "fine_purning"],
            "--defense: unknown defense 'fine_purning' (did you mean fine_pruning or "
            f"fine_tuning?); known: {', '.join(DEFENSES.names())} (also: none)",
        ),
        (
            ["--dataset", "minst"],
            "--dataset: unknown data set 'minst' (did you mean mnist?); known: "
            f"{', '.join(DATASETS.names())} (also: auto)",
        ),
        (
            ["--model", "simplecn"],
            "--model: unknown model 'simplecn' (did you mean simplecnn?); "
            "known: preact_resnet18, simplecnn, vgg_small, vit",
        ),
        (["--seeds", "abc"], "--seeds: 'abc' is neither a count like 3 nor different seeds"),
        (
            ["--data-dir", "/no/such/folder"],
            "--data-dir: the data folder /no/such/folder does not exist",
        ),
        (["--rerun", "al"], "--rerun: 'al' is none of none, failed, all, and matches no cell"),
        (["--device", "quantum"], "--device: device 'quantum' cannot be used here ("),
    ],
)
def test_a_wrong_option_is_one_line(bench, arguments, message):
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith(f"ERROR: {message}")
    assert not list(Path.cwd().rglob("*.json"))


def test_cuda_without_a_gpu_is_one_line(bench, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError("No CUDA GPUs are available")

    zeros = torch.zeros
    monkeypatch.setattr(
        torch, "zeros", lambda *a, **k: refuse() if "device" in k else zeros(*a, **k)
    )
    result = bench("--device", "cuda")
    assert [line for line in result.errlines if line.strip()] == [
        "ERROR: --device: device 'cuda' cannot be used here (No CUDA GPUs are available); "
        "use auto or cpu"
    ]


def unwritable(tmp_path: Path) -> Path:
    """A folder that nobody, not even root, can write to."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        return tmp_path
    return Path("/proc/triggerbench")


def test_a_read_only_results_folder_is_one_line(bench, tmp_path):
    folder = unwritable(tmp_path)
    result = bench("--results-dir", str(folder))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith(f"ERROR: --results-dir: cannot write to {folder}")


def test_mnist_without_data_or_network_is_a_one_line_failure(bench, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", refuse)
    result = bench("--data-dir", str(tmp_path), dataset="mnist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith(f"ERROR: data set 'mnist' is not in {tmp_path} and could not be downl")


def test_a_run_is_judged_written_up_and_told(bench, tmp_path):
    result = bench(TINY, "-k", "pixel", STUDY, "--benchmark-json=timings.json")
    result.assert_outcomes(passed=3)
    results = tmp_path / "results"
    for name in ("attacks", "detection", "repair"):
        assert (results / f"{name}.md").exists()
        assert (results / f"{name}.csv").exists()
    assert (results / "report.md").exists()
    assert len(list((results / "records").glob("*.json"))) == 3
    result.stdout.fnmatch_lines(
        [
            "triggerbench: data set tiny; seeds 0; device *",
            "*attacks: tiny / simplecnn, seeds 0*",
            "pixel * pass*",
            "*repair: tiny / simplecnn, seeds 0*",
            "report *results/report.md",
        ]
    )
    timings = json.loads((tmp_path / "timings.json").read_text())["benchmarks"]
    assert {b["extra_info"]["cell"] for b in timings} >= {"tiny-simplecnn-pixel-s0"}
    assert all("clean_accuracy" in b["extra_info"] or "f1" in b["extra_info"] for b in timings)


def test_disabling_the_timings_changes_nothing_else(bench, tmp_path):
    bench(TINY, "-k", "pixel", STUDY).assert_outcomes(passed=3)
    timed = (tmp_path / "results" / "repair.csv").read_text()
    bench(TINY, "-k", "pixel", STUDY, "--benchmark-disable", "--rerun", "all").assert_outcomes(
        passed=3
    )
    assert (tmp_path / "results" / "repair.csv").read_text() == timed


def expecting(folder, bound):
    """A folder of gates: a bound on the ASR of pixel on tiny."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(
        f'[[gates]]\n[gates.cells.simplecnn]\npixel.none = {{ asr = "{bound}" }}\n'
    )
    return folder


def test_a_failing_gate_is_told_in_a_line_with_the_record(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(gate_files, "FOLDER", expecting(tmp_path, "<= 0.01"))
    result = bench(TINY, "-k", "test_attack and pixel")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "tiny-simplecnn-pixel-s0: asr misses its gate: is *.?? %, must be <= 1.00 %",
            "record: *results/records/tiny-simplecnn-pixel-s0.json",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_gates_of_several_seeds_are_on_their_mean(bench, tmp_path, monkeypatch):
    def judged(bound, *which):
        monkeypatch.setattr(gate_files, "FOLDER", expecting(tmp_path / bound, bound))
        return bench(TINY, "-k", " and ".join(["test_attack", "pixel", *which]), "--seeds=2")

    missed, held = judged("<= 0.01"), judged(">= 0.01")
    for found in (missed, held):
        found.assert_outcomes(passed=2)
    assert (missed.ret, held.ret) == (1, 0)
    missed.stdout.fnmatch_lines(
        ["gate *tiny-simplecnn-pixel, mean of seeds 0, 1: asr misses its gate: is *<= 1.00 %"]
    )
    # Of two seeds one alone is judged as well.
    assert judged(">= 0.01", "s0").ret == 0
    assert judged("<= 0.01", "s0").ret == 1


def test_a_claim_that_is_not_met_is_told_and_fails_nothing(bench, tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(
        'known = {models = ["simplecnn"], attacks = ["pixel"], defenses = ["none"]}\n'
        '[[claims]]\nsource = "somebody"\nattacks = ["pixel"]\ndefenses = ["none"]\n'
        'bounds = { asr = "<= 0.01" }\n'
    )
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)
    result = bench(TINY, "-k", "test_attack and pixel")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["claims    1 red"])
    assert "| somebody | pixel |" in (tmp_path / "results" / "report.md").read_text()


BROKEN = """
import torch
from attacks import Attack, attack
from defenses import SampleDetector, Repair, defense


@attack("crooked", level=1, needs="data", source="")
class Crooked(Attack):
    def forward(self, images):
        return images[..., 1:]


@defense("thrower", source="")
class Thrower(SampleDetector):
    def detect(self, view):
        raise RuntimeError("out of ideas")


@defense("shrinker", source="")
class Shrinker(Repair):
    def repair(self, view):
        view.model.head = torch.nn.Linear(128, 3)
        return view.model
"""


@pytest.fixture
def plugin_file(tmp_path):
    """A module on the path, to be given with -p in a fresh process."""

    def write(text):
        (tmp_path / "strangers_plugins.py").write_text(text)
        return {"path": [tmp_path]}

    return write


def test_broken_plugins_fail_their_own_cells_and_no_others(shell, plugin_file, tmp_path):
    environment = plugin_file(BROKEN)
    defenses = f"{STUDY},thrower,shrinker"
    done = shell(TINY, "-p", "strangers_plugins", "--attack=crooked,pixel", defenses, **environment)
    assert done.returncode == 1
    assert (
        "attack 'crooked': forward returned torch.float32 [2, 1, 12, 11], expected" in done.stdout
    )
    assert "defense 'thrower': raised RuntimeError: out of ideas (strangers_plug" in done.stdout
    assert "defense 'shrinker': repair's network returns [2, 3], expected [2, 4]" in (done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert "missing   7 cells have no record" in done.stdout
    records = {path.stem for path in (tmp_path / "results" / "records").glob("*.json")}
    assert records == {
        "tiny-simplecnn-pixel-s0",
        "tiny-simplecnn-pixel-activation_clustering-s0",
        "tiny-simplecnn-pixel-fine_pruning-s0",
    }
    assert not list((tmp_path / "results").rglob("*.part"))


def test_third_party_plugins_arrive_by_p(shell, plugin_file):
    environment = plugin_file(PLUGINS)
    done = shell(
        *(TINY, "-p", "undrawn", "-p", "strangers_plugins"),
        "--attack=stripe",
        "--defense=edge_watcher",
        **environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stripe" in done.stdout
    assert "edge_watcher" in done.stdout


def test_third_party_plugins_arrive_by_entry_point(shell, plugin_file, tmp_path):
    environment = plugin_file(PLUGINS)
    info = tmp_path / "strangers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[triggerbench.attacks]\nstripe = strangers_plugins:Stripe\nbroken = no_such_module:X\n"
        "[triggerbench.defenses]\nedge_watcher = strangers_plugins:EdgeWatcher\n"
    )
    done = shell(
        TINY, "-p", "undrawn", "--attack=stripe", "--defense=none,edge_watcher", **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert done.stdout.count("attack plugin 'broken' (no_such_module:X) could not be loaded") == 1


def test_rerun_is_the_only_way_to_measure_again(bench, tmp_path):
    def reused(*arguments):
        bench(TINY, "-k", "pixel and not attack", STUDY, "--benchmark-json=t.json", *arguments)
        timings = json.loads((tmp_path / "t.json").read_text())["benchmarks"]
        return {b["extra_info"]["cell"].split("-")[3]: b["extra_info"]["reused"] for b in timings}

    reused()
    assert reused() == {"activation_clustering": True, "fine_pruning": True}
    assert reused("--rerun", "failed") == {"activation_clustering": True, "fine_pruning": True}
    assert reused("--rerun", "*fine_pruning*") == {
        "activation_clustering": True,
        "fine_pruning": False,
    }
    assert reused("--rerun", "all") == {"activation_clustering": False, "fine_pruning": False}


def test_on_a_terminal_training_shows_its_progress(tmp_path, checkout, surroundings):
    master, slave = pty.openpty()
    command = [
        *(sys.executable, "-m", "pytest", "bench", "-p", "tiny", "-p", "undrawn", TINY),
        *("-k", "test_attack"),
        *("--attack=none", f"--results-dir={tmp_path / 'results'}"),
    ]
    environment = surroundings(TRIGGERBENCH_CACHE=str(tmp_path / "cache"), TERM="xterm")
    process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(master)
    assert process.wait() == 0, shown.decode()
    shown = shown.decode()
    assert re.search(
        r"\r  0 of 1 cells, .*epoch 1/\d+ \(loss \d\.\d+\) for tiny-simplecnn-none", shown
    )
    assert re.search(r"1/1  not gated +tiny-simplecnn-none-s0  clean accuracy 9\d\.\d+ %", shown)
    assert "%]" not in shown


def test_a_run_leaves_the_checkout_clean(shell, checkout):
    if not (checkout / ".git").exists():
        pytest.skip("not a git checkout")

    def status():
        command = ["git", "status", "--porcelain", "--ignored"]
        out = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
        caches = ("__pycache__", ".pytest_cache", ".benchmarks", ".hypothesis", "_cache/")
        return [line for line in out.stdout.splitlines() if not any(c in line for c in caches)]

    before = status()
    assert shell(TINY, "-k", "pixel", STUDY).returncode == 0
    assert status() == before


def test_help_explains_every_option(shell):
    done = shell("--help")
    section = done.stdout.partition("triggerbench: attacks x defenses:")[2]
    for option in (
        "--dataset",
        "--model",
        "--attack",
        "--defense",
        "--seeds",
        "--device",
        "--data-dir",
        "--results-dir",
        "--rerun",
    ):
        assert option in section


def test_list_names_every_plugin_with_its_source(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for text in (
        "pixel",
        "arXiv:1708.06733",
        "fine_pruning",
        "[repair; sees model, clean]",
        "sgd",
        "recipes:",
        "digits",
        "simplecnn",
    ):
        assert text in out


def test_report_rewrites_tables_from_records(bench, tmp_path, capsys):
    bench(TINY, "-k", "pixel", STUDY).assert_outcomes(passed=3)
    results = tmp_path / "results"
    (results / "attacks.md").unlink()
    assert main(["report", str(results)]) == 0
    assert "3 records" in capsys.readouterr().out
    assert "| pixel" in (results / "attacks.md").read_text()


def test_report_without_records_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no records")


def test_python_dash_m_bench_runs(checkout):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
