"""The README is true: its commands are CI's, its examples run, its tables are committed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import tables
from bench.metrics import METRICS
from bench.plugin import pytest_addoption

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\w+)\.py -->\n```python\n(.*?)```", README, re.DOTALL))


def test_there_is_an_example_of_each_kind():
    assert list(EXAMPLES) == ["stripes", "loss_ranking"]
    assert all(len(text.splitlines()) <= 20 for text in EXAMPLES.values())


@pytest.fixture
def on_path(tmp_path):
    for name, text in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}


def python(*arguments, env):
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=env, capture_output=True, text=True
    )


def test_the_examples_conform(on_path):
    code = (
        "import stripes, loss_ranking\n"
        "from bench.checks import check_attack, check_defense\n"
        "check_attack('stripes'); check_defense('loss_ranking')"
    )
    done = python("-c", code, env=on_path)
    assert done.returncode == 0, done.stderr


def test_the_examples_run_in_the_benchmark(on_path, tmp_path):
    done = python(
        *("-m", "pytest", "bench", "--dataset=digits", f"--results-dir={tmp_path / 'results'}"),
        *("-p", "stripes", "-p", "loss_ranking", "--attack=stripes"),
        *("--defense=none,loss_ranking",),
        env=on_path,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(commands) == 2
    setup, tests = commands[1].split(" && ")
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert f"{setup} -q && {tests}" in script


def test_the_table_of_attacks_is_the_committed_one():
    committed = (CHECKOUT / "results" / "mnist" / "attacks.md").read_text()
    table = [line for line in committed.splitlines() if line.startswith("|")]
    assert len(table) == 11  # a heading, its rule, the clean model and eight attacks
    assert "\n".join(table) in README


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (CHECKOUT / target).exists(), target


def options() -> set[str]:
    """Every option of ``pytest bench`` and of ``python -m bench``."""
    found = []

    class Group:
        def addoption(self, name, **_):
            found.append(name)

    class Parser:
        def getgroup(self, *_):
            return Group()

    pytest_addoption(Parser())
    source = (CHECKOUT / "bench" / "__main__.py").read_text()
    return {*found, *re.findall(r'"(--[a-z-]+)"', source)}


OPTIONS = options()


def test_options_that_the_readme_names_exist():
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README))
    assert named - {"--benchmark-json", "--dist", "--help", "--junit-xml"} <= OPTIONS


def test_metrics_of_the_readme_are_those_of_the_code():
    section = README.partition("## Metrics")[2].partition("##")[0]
    titles = {metric.title for metric in METRICS.values()}
    for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[2:]:
        for name in row.split(", ") if row.startswith(("L-inf", "TPR")) else [row]:
            assert any(title.startswith(name) for title in titles), name


def test_the_workflow_runs_commands_that_exist():
    text = (CHECKOUT / ".github" / "workflows" / "bench.yml").read_text()
    text += re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {"--junit-xml"} <= OPTIONS
    for path in re.findall(r"[\w./]+/[\w.]+\.(?:json|py)\b", text):
        assert (CHECKOUT / path).exists(), path


def test_the_leaderboard_is_the_committed_one():
    committed = (CHECKOUT / "results" / "leaderboard.md").read_text()
    region = r"<!-- leaderboard: begin -->.*<!-- leaderboard: end -->"
    assert re.search(region, committed, re.DOTALL)[0] == re.search(region, README, re.DOTALL)[0]


def test_the_leaderboard_is_made_of_the_committed_records():
    from bench import leaderboard, records

    folders = [path.parent for path in sorted((CHECKOUT / "results").glob("*/records"))]
    found = [r for f in folders if f.name != "latest" for r in records.load_all(f)]
    assert leaderboard.markdown(tables.in_order(found)) in README
    assert all(record.environment["dirty"] is False for record in found)


def test_the_baseline_is_of_the_committed_records():
    from bench import baseline

    accepted = baseline.load(CHECKOUT / "results" / "baseline.json")
    for name in ("digits", "mnist"):
        found = baseline.load(CHECKOUT / "results" / name)
        assert found.items() <= accepted.items()
        assert all(len(cell.seeds) >= 3 for cell in found.values())


def test_the_times_are_those_of_the_committed_page():
    region = README.partition("<!-- speed: begin -->")[2].partition("<!-- speed: end -->")[0]
    rows = [line for line in region.splitlines() if line.startswith("|")]
    measured = (CHECKOUT / "results" / "speed.md").read_text().splitlines()
    assert len(rows) > 5
    assert not set(rows) - set(measured)


def test_the_number_of_faults_is_right():
    import runpy

    faults = runpy.run_path(str(CHECKOUT / "tests" / "mutations.py"))["FAULTS"]
    assert f"puts {len(faults)} deliberate faults" in README
    score = (CHECKOUT / "results" / "mutations.md").read_text()
    assert f"{len(faults)} of {len(faults)} are noticed" in score


def test_every_committed_cell_on_mnist_is_gated_or_its_failure_is_explained():
    from bench import records
    from bench.gates import judge

    committed = [record.cell for record in records.load_all(CHECKOUT / "results" / "mnist")]
    assert len(committed) >= 324
    for cell in committed:
        gated = bool(judge(cell, dict.fromkeys(METRICS, 0.5)))
        assert gated != bool(tables.remark(cell)), cell.id
