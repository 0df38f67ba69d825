"""How long threads spin while they wait: what is set, and what is left to whoever has said it."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.runtime.waiting import BRIEFLY, NOT_AT_ALL, wait

CHECKOUT = Path(__file__).resolve().parents[1]

TELLS = """
import os
from pathlib import Path

def pytest_runtest_setup():
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
    Path(__file__).with_name("told").write_text(
        repr({name: os.environ[name] for name in names if name in os.environ})
    )
"""


@pytest.mark.parametrize("how", [BRIEFLY, NOT_AT_ALL])
@pytest.mark.parametrize("before", [{}, BRIEFLY, NOT_AT_ALL], ids=["nothing", "briefly", "not"])
def test_one_takes_the_place_of_the_other(how, before):
    surroundings = {"HOME": "/", **before}
    wait(how, surroundings)
    assert surroundings == {"HOME": "/", **how}


@pytest.mark.parametrize(
    "said", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "5"}]
)
def test_what_somebody_has_said_stands(said):
    surroundings = dict(said)
    wait(BRIEFLY, surroundings)
    wait(NOT_AT_ALL, surroundings)
    assert surroundings == said


@pytest.mark.parametrize(("workers", "how"), [((), BRIEFLY), (("-n", "1"), NOT_AT_ALL)])
def test_a_run_waits_as_its_threads_have_cores(workers, how, surroundings, tmp_path):
    (tmp_path / "tells.py").write_text(TELLS)
    said = surroundings(tmp_path)
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        said.pop(name, None)
    command = [sys.executable, "-m", "pytest", "bench", "-p", "tells", "-p", "tiny", *workers]
    command += ["--dataset=tiny", "--attack=none", "--defense=none"]
    command += ["-p", "no:cacheprovider", f"--results-dir={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=said, cwd=CHECKOUT)
    assert (tmp_path / "told").read_text() == repr(how), done.stdout + done.stderr
