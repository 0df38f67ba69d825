"""Shared by the tests: one cache of small victims, and two ways to run the benchmark."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from bench.cell import Cell
from bench.identity import key
from bench.records import Record
from bench.workspace import Workspace

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test hangs. Not in pyproject: who only runs the benchmark has no pytest-timeout."""
    for item in items:
        item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def quick() -> Callable[[str], dict[str, Any]]:
    """Parameters that make a defense do less of the same: a contract needs no good figures."""
    less = {
        "neural_cleanse": {"steps": 40},
        "neural_cleanse_unlearning": {"steps": 40, "threshold": -100.0, "min_steps": 20},
        "nad": {"min_steps": 20, "epochs": 1},
        "fine_tuning": {"min_steps": 20, "epochs": 1},
        "anp": {"steps": 10, "batch": 32},
        "ibau": {"rounds": 2, "inner": 2, "outer": 2, "batch": 32},
        "strip": {"overlays": 3},
    }
    return lambda name: less.get(name, {})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session: a digits victim takes seconds, and is the same for every test."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record that nobody measured, with the identity that its cell would have."""

    def make(
        attack="pixel",
        defense="none",
        seed=0,
        *,
        dataset="digits",
        gates=(),
        code="1",
        command="pytest bench",
        details=(),
        attack_params=(),
        **metrics,
    ):
        cell = Cell(dataset, attack=attack, defense=defense, seed=seed, attack_params=attack_params)
        shaped_by = {
            "asked": cell.to_json(),
            "code": {"attack": f"{attack}{code}", "defense": defense},
            "versions": {"torch": "2"},
            "machine": {"dtype": "bfloat16"},
        }
        return Record(
            cell=cell,
            identity=key(shaped_by),
            shaped_by=shaped_by,
            metrics=metrics,
            timings={},
            environment={
                "torch": "2",
                "dtype": "bfloat16",
                "device": "cpu",
                "cpu": "a CPU",
                "threads": 2,
                "commit": "0123456789abcdef",
                "dirty": False,
            },
            command=command,
            gates=list(gates),
            details={
                "poisoned_samples": 3,
                "training_samples": 100,
                "target": 0,
                "target_samples": 12,
                **dict(details),
            },
            kind=cell.kind,
        )

    return make


@pytest.fixture(scope="session")
def workspace(cache: Path) -> Workspace:
    return Workspace(cache=cache, device="cpu")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(cache))
    monkeypatch.delenv("TRIGGERBENCH_DATA", raising=False)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run ``pytest bench`` in this process and an empty folder, on digits unless told otherwise.

    Not pytester's in-process run: that unloads what was imported meanwhile, and PyTorch's
    extensions do not survive being imported twice.
    """

    def run(*arguments: str, dataset: str = "digits") -> pytest.RunResult:
        monkeypatch.chdir(tmp_path)
        command = [
            f"--rootdir={CHECKOUT}",
            f"--config-file={CHECKOUT / 'pyproject.toml'}",
            f"--results-dir={tmp_path / 'results'}",
            f"--dataset={dataset}",
            "--capture=no",
            *arguments,
            str(CHECKOUT / "bench"),
        ]
        out, err = io.StringIO(), io.StringIO()
        began = time.perf_counter()
        with redirect_stdout(out), redirect_stderr(err):
            code = pytest.main(command)
        return pytest.RunResult(
            code,
            out.getvalue().splitlines(),
            err.getvalue().splitlines(),
            time.perf_counter() - began,
        )

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m pytest bench`` as a person would, in a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "bench",
                "--dataset=digits",
                f"--results-dir={tmp_path / 'results'}",
                *arguments,
            ],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run
