"""What tests/conftest.py does with the tests themselves."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

SAMPLE = """
import pytest


def test_by_day(): ...


@pytest.mark.nightly
def test_by_night(): ...


@pytest.mark.skip(reason="no such device")
def test_elsewhere(): ...
"""


@pytest.fixture(scope="module")
def pytest_on_a_sample(tmp_path_factory, checkout, surroundings):
    """Run the sample under the rules of these tests; the last line of what pytest says."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "conftest.py").symlink_to(checkout / "tests" / "conftest.py")
    (folder / "test_sample.py").write_text(SAMPLE)

    def run(*arguments, ci=""):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*command, f"--config-file={checkout / 'pyproject.toml'}", *arguments],
            cwd=folder,
            env=surroundings(CI=ci),
            capture_output=True,
            text=True,
        ).stdout

    return run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "1 passed, 1 skipped, 1 deselected"),
        (("-m", "nightly"), "1 passed, 2 deselected"),
        (("test_sample.py::test_by_night",), "1 passed"),
    ],
)
def test_what_only_nights_run_is_left_out_unless_asked_for(pytest_on_a_sample, arguments, told):
    out = pytest_on_a_sample(*arguments)
    assert told in out.splitlines()[-1], out


def test_in_ci_a_skip_is_a_failure_with_its_reason(pytest_on_a_sample):
    out = pytest_on_a_sample(ci="true")
    assert "1 passed, 1 deselected, 1 error" in out
    assert "skipped in CI: Skipped: no such device" in out


@pytest.mark.parametrize(
    ("asked", "more", "workers"),
    [
        (["tests"], {}, True),
        (["tests/test_rules.py"], {}, False),
        (["tests", "bench"], {}, False),
        (["tests"], {"numprocesses": 0}, False),
        (["tests"], {"keyword": "kills"}, False),
        (["tests"], {"markexpr": "nightly"}, False),
    ],
)
def test_only_all_of_the_tests_are_shared_among_workers(
    request, checkout, monkeypatch, asked, more, workers
):
    rules = request.config.pluginmanager.get_plugin(str(checkout / "tests" / "conftest.py"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plain = {"numprocesses": None, "dist": "no", "keyword": "", "markexpr": ""}
    option = SimpleNamespace(**{**plain, "collectonly": False, "usepdb": False, **more})
    config = SimpleNamespace(
        option=option, args=asked, invocation_params=SimpleNamespace(dir=checkout)
    )
    rules.pytest_cmdline_main(config)
    assert (option.dist == "worksteal") == workers
    assert bool(option.numprocesses) == workers
