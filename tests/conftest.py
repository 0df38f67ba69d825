"""Shared by the tests: one cache of small victims, and two ways to run the benchmark.

``pytest tests`` shares the cores among workers of one thread each; ``-n 0`` does not, nor does
whoever asks for less than all of it. What only nights run is marked ``nightly``: ``-m nightly``.
"""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attacks import ATTACKS
from bench.judge.defenses import judge_defense
from bench.report import figures
from bench.runtime.workspace import Workspace
from bench.spec import defaults
from bench.spec.cell import Cell
from bench.spec.identity import key
from bench.store.records import Record
from defenses import DEFENSES, DefenderView, defense
from fixtures.images import ImageSet

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
PLUGINS = TESTS / "plugins"
"""What tests give with ``-p``; pyproject.toml has it on the path of this process."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """All of the tests keep every core busy best with a worker of one thread on each."""
    if hasattr(config, "workerinput"):
        return  # a worker shares its core with nobody
    option = config.option
    asked = [(config.invocation_params.dir / name).resolve() for name in config.args]
    narrowed = option.keyword or option.markexpr or option.collectonly or option.usepdb
    if getattr(option, "numprocesses", 0) is None and asked == [TESTS] and not narrowed:
        option.numprocesses, option.dist = len(os.sched_getaffinity(0)), "worksteal"
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers inherit it


def pytest_configure() -> None:
    importlib.import_module("tiny")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Nightly tests run by ``-m`` or by their own name; no test hangs.

    Neither is in pyproject.toml: who only runs the benchmark has no pytest-timeout, and a ``-m``
    there would narrow the benchmark.
    """
    for item in items:
        item.add_marker(pytest.mark.timeout(600))
    if not config.option.markexpr and not any("::" in name for name in config.args):
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return unskipped((yield))


def unskipped(report: Any) -> Any:
    """In CI (the variable ``CI`` is set) whatever tests need is there: a skip is a failure."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr[-1]}"
    return report


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def quick() -> Callable[[str], dict[str, Any]]:
    """Parameters that make a defense do less of the same: a contract needs no good figures."""
    less = {
        "neural_cleanse": {"steps": 10, "batch": 4},
        "neural_cleanse_unlearning": {
            **{"steps": 10, "batch": 4, "threshold": -100.0},
            **{"min_steps": 5, "epochs": 1},
        },
        "nad": {"min_steps": 5, "epochs": 1},
        "from_scratch": {"min_steps": 5},
        "fine_tuning": {"min_steps": 5, "epochs": 1},
        "fine_pruning": {"min_steps": 5, "epochs": 1},
        "anp": {"steps": 4, "batch": 32},
        "ibau": {"rounds": 1, "min_steps": 2, "fixed_point": 2, "batch": 32},
        "strip": {"overlays": 3},
        "mm_bd": {"starts": 2, "steps": 5},
        "adversarial_labels": {"steps": 2},
    }
    return lambda name: less.get(name, {})


@pytest.fixture(scope="session")
def view_of() -> Callable[..., DefenderView]:
    """What a defender has of a network on the CPU; the suspect images are the clean ones, too."""

    def make(
        net: nn.Module,
        clean: ImageSet | None,
        suspect: ImageSet | None = None,
        *,
        classes: int = 2,
        fresh: Callable[[], nn.Module] | None = None,
    ) -> DefenderView:
        seen = clean if suspect is None else suspect
        assert seen is not None
        return DefenderView(
            model=net,
            clean=clean,
            suspect=seen,
            shape=seen.shape,
            num_classes=classes,
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(0),
            fresh=fresh,
        )

    return make


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the session: a digits victim takes seconds, and is the same for every test.

    Workers share the victims; of their records some tests damage some.
    """
    folder = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        victims = tmp_path_factory.getbasetemp().parent / "victims"
        victims.mkdir(exist_ok=True)
        (folder / "victims").symlink_to(victims)
    return folder


@pytest.fixture(scope="module")
def hooks() -> Iterator[Any]:
    """The plugins of tests/plugins/hooks.py, registered while a module's tests run."""
    with ATTACKS.temporary(), DEFENSES.temporary():
        sys.modules.pop("hooks", None)
        yield importlib.import_module("hooks")
        sys.modules.pop("hooks", None)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A record that nobody measured, with the identity that its cell would have."""

    def make(
        attack="pixel",
        defense="none",
        seed=0,
        *,
        dataset="digits",
        code="1",
        command="pytest bench",
        details=(),
        poison=(),
        data=(),
        attack_params=(),
        clean=None,
        **metrics,
    ):
        cell = Cell(
            dataset,
            attack=attack,
            defense=defense,
            seed=seed,
            attack_params=attack_params,
            clean=clean,
        )
        identity = {
            "asked": {
                **cell.to_json(),
                "clean": None if defense == "none" else defaults.budget(cell),
                "recipe": {"epochs": 2},
            },
            "code": {"attack": f"{attack}{code}", "defense": defense},
            "versions": {"torch": "2"},
            "machine": {"dtype": "bfloat16"},
        }
        return Record(
            cell=cell,
            key=key(identity),
            identity=identity,
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
            poison={
                "poisoned_samples": 3,
                "training_samples": 100,
                "target": 0,
                "target_samples": 12,
                **dict(poison),
            },
            data=dict(data),
            details=dict(details),
            kind=cell.kind,
        )

    return make


@pytest.fixture
def judged(workspace: Workspace) -> Callable[..., tuple[dict[str, float], Any, dict[str, Any]]]:
    """What the referee makes of a defense's class that nobody registered: metrics, costs, details.

    ``clean``: the same model without poison.
    """

    def judge(plugin, attacked, clean=None, name="stranger", **params):
        with DEFENSES.temporary():
            defense(name)(plugin)
            cell = replace(attacked.cell, defense=name, defense_params=params)
            return judge_defense(cell, attacked, clean, workspace)

    return judge


@pytest.fixture(scope="session")
def workspace(cache: Path) -> Workspace:
    return Workspace(cache=cache, device="cpu")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("TRIGGERBENCH_CACHE", str(cache))
    monkeypatch.delenv("TRIGGERBENCH_DATA", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # what a test runs is no worker


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run ``pytest bench`` in this process and an empty folder, on digits unless told otherwise.

    Not pytester's in-process run: that unloads what was imported meanwhile, and PyTorch's
    extensions do not survive being imported twice. Nothing is drawn unless ``drawn``: pictures
    take longer than all else.
    """

    def run(*arguments: str, dataset: str = "digits", drawn: bool = False) -> pytest.RunResult:
        monkeypatch.chdir(tmp_path)
        command = [
            f"--rootdir={CHECKOUT}",
            f"--config-file={CHECKOUT / 'pyproject.toml'}",
            f"--results-dir={tmp_path / 'results'}",
            f"--dataset={dataset}",
            "--capture=no",
            *("-p", "no:unraisableexception"),  # it collects garbage for longer than a run takes
            *arguments,
            str(CHECKOUT / "bench"),
        ]
        out, err = io.StringIO(), io.StringIO()
        began = time.perf_counter()
        with monkeypatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            if not drawn:
                patched.setattr(figures, "draw_all", lambda *_: {})
            code = pytest.main(command)
        return pytest.RunResult(
            code,
            out.getvalue().splitlines(),
            err.getvalue().splitlines(),
            time.perf_counter() - began,
        )

    return run


@pytest.fixture(scope="session")
def surroundings() -> Callable[..., dict[str, str]]:
    """The environment of a process of its own, in which ``-p tiny`` and more modules are found."""

    def make(*folders: Path, **more: str) -> dict[str, str]:
        path = os.pathsep.join(map(str, (*folders, PLUGINS, CHECKOUT)))
        return {**os.environ, "PYTHONPATH": path, **more}

    return make


@pytest.fixture
def shell(
    tmp_path: Path, surroundings: Callable[..., dict[str, str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m pytest bench`` as a person would: in a process of its own, on digits.

    ``path``: further folders to import from.
    """

    def run(
        *arguments: str, path: Sequence[Path] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "bench", "-p", "tiny", "--dataset=digits"),
                f"--results-dir={tmp_path / 'results'}",
                *arguments,
            ],
            cwd=CHECKOUT,
            env=surroundings(*path, **environment),
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run
