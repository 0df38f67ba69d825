"""What a defense breaks is its own cell's failure, told in one line; the next cell runs."""

from __future__ import annotations

import importlib
import sys
import time

import psutil
import pytest

from bench import Cell, run
from bench.runtime import child
from bench.runtime.deadline import CellTimeout, deadline
from defenses import DEFENSES
from defenses.process import life
from fixtures.errors import PluginError


@pytest.fixture(scope="module", autouse=True)
def vandals():
    with DEFENSES.temporary():
        sys.modules.pop("vandals", None)
        yield importlib.import_module("vandals")


def cell(name, **params):
    return Cell("tiny", attack="pixel", defense=name, defense_params=params)


@pytest.fixture
def works(workspace):
    """That the next cell is served as ever."""
    yield
    assert run(cell("wraps"), workspace, rerun=True).metrics["clean_accuracy"] > 0.8


def complaint(cell, workspace):
    with pytest.raises(PluginError) as error:
        run(cell, workspace)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("works")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("forks", "starts another process"),
        ("starts_a_program", "starts another process"),
        ("opens_a_socket", "opens a connection"),
        ("signals", "sends a signal to a process"),
        ("leaves", "ended its own process with exit status 3"),
        ("exits", "raised SystemExit: enough"),
        ("crashes", "its process was ended by SIGSEGV"),
        ("rolls_dice", "detect gives different results for the same view and seed"),
        ("bows_out", "not applicable, which only supports may say: not today"),
        ("hangs_up", "its process was ended by SIGKILL, as where memory runs out"),
        ("returns_a_lambda", "repair returned a lambda, no network"),
        ("returns_elsewhere", "repair returned a network on meta, expected cpu"),
    ],
)
def test_a_vandal_is_one_line(name, said, workspace):
    assert complaint(cell(name), workspace) == f"defense {name!r}: {said}"


@pytest.mark.parametrize("name", ["writes", "writes_quietly"])
def test_nothing_is_written_into_the_checkout(name, workspace, checkout):
    path = checkout / "was_here.txt"
    assert complaint(cell(name, path=str(path)), workspace) == (
        f"defense {name!r}: writes to {path}: only temporary files may be written"
    )
    assert not path.exists()


@pytest.mark.usefixtures("works")
def test_who_takes_too_much_memory_is_ended(workspace, monkeypatch):
    share = (1 << 30) / psutil.virtual_memory().available
    monkeypatch.setattr(child, "MEMORY_SHARE", share)
    said = complaint(cell("fills_memory"), workspace)
    assert said.startswith("defense 'fills_memory': took more than 1.0 GiB of memory")


@pytest.mark.usefixtures("works")
def test_a_limit_of_time_ends_compiled_code_that_never_returns(workspace):
    run(Cell("tiny", attack="pixel"), workspace)  # its victim is there
    began = time.monotonic()
    with pytest.raises(CellTimeout), deadline(2):
        run(cell("never_returns"), workspace)
    assert time.monotonic() - began < 10
    kept = [one for one in psutil.Process().children(recursive=True) if serves(one)]
    assert len(kept) == life.COPIES


def test_what_it_has_started_ends_with_it(workspace):
    run(cell("leaves_a_child"), workspace)
    run(cell("wraps"), workspace, rerun=True)  # by then the first has been cleared away
    assert len([one for one in psutil.Process().children(recursive=True) if serves(one)]) == (
        life.COPIES
    )


def test_temporary_files_and_what_libraries_ask_for_are_no_breach(workspace):
    assert run(cell("tidies_up"), workspace).metrics["fpr"] == 0


def serves(process):
    return process.status() != psutil.STATUS_ZOMBIE and "defenses.process" in process.cmdline()


def test_a_network_of_a_class_of_its_own_answers_from_its_process(workspace):
    record = run(cell("wraps"), workspace)
    assert record.details["stays"] == "Calm answers from its defender's process"
    assert record.metrics["company"] == 0
    before = record.metrics["clean_accuracy_before"]
    assert record.metrics["clean_accuracy"] == pytest.approx(before, abs=0.08)  # of half the images


HIDDEN = ("hooks_in", "hooks_in_on_dark_images", "calls_forward_its_own")


@pytest.mark.parametrize("name", HIDDEN)
def test_what_weights_do_not_hold_is_not_lost(name, workspace):
    """The logits are rolled by one class: nothing is right any more."""
    record = run(cell(name), workspace)
    assert record.metrics["clean_accuracy"] < 0.2
    assert record.details["stays"] == "SimpleCNN answers from its defender's process"


def test_weights_of_a_known_class_come_back_and_are_measured_here(workspace):
    record = run(
        Cell("tiny", attack="pixel", defense="fine_tuning", defense_params={"epochs": 1}), workspace
    )
    assert "stays" not in record.details
    assert record.metrics["reactivation"] is not None
