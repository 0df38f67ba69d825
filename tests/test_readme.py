"""The README is short and true: its commands are CI's, its table is of committed records."""

from __future__ import annotations

import re
from pathlib import Path

from bench.analysis.series import measured
from bench.report import pages
from bench.store import records

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()


def committed():
    """Every committed record."""
    folders = sorted(path.parent for path in (CHECKOUT / "results").glob("*/records.jsonl"))
    return [record for folder in folders for record in records.load_all(folder)]


def test_the_readme_is_at_most_8_kb():
    assert len((CHECKOUT / "README.md").read_bytes()) <= 8192


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert commands == [
        "python -m pip install -e . && python -m pytest bench",
        "python -m pip install -e '.[dev]' && python -m pytest tests",
    ]
    setup, tests = commands[1].split(" && ")
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert f"{setup} -q && {tests}" in script


def test_an_attack_takes_15_lines_and_gating_ci_5():
    (attack,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (gating,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(attack.splitlines()) <= 15
    assert len(gating.splitlines()) <= 5


def test_the_studys_table_is_made_of_the_committed_records():
    found = committed()
    assert set(pages.sections(CHECKOUT / "README.md")) == {"study", "leading"}
    assert f"<!-- study: begin -->\n\n{pages.SECTIONS['study'](measured(found))}\n\n" in README
    assert all(record.environment["dirty"] is False for record in found)
