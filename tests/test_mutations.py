"""The deliberate faults of mutations.py: each has one place in the code, and a lost one is told."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutations import (
    CHECKOUT,
    FAULTS,
    Fault,
    Unusable,
    faulty,
    judge,
    located,
    main,
    markdown,
    place_of,
    table,
    table_of,
)

FAULT = Fault("a sum is a difference", "bench.Sum.of", "a + b", "a - b", "tests/test_sum.py")
MODULE = """
class Sum:
    def of(self, a, b):
        # ä
        return 2 * (
            a  # the first
            + b
        )
"""
TEST = """
from bench.sums import Sum

def test_one_and_one(): assert Sum().of(1, 1) == 4
"""


@pytest.fixture
def project(tmp_path):
    """A checkout of one module and its test. Every call writes, and gives, another one."""

    def make(module=MODULE, *, path="bench/sums.py", test=TEST):
        checkout = tmp_path / f"checkout{len(list(tmp_path.iterdir()))}"
        for name, text in ((path, module), ("tests/test_sum.py", test)):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_text(text)
        return checkout

    return make


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_one_place_and_makes_another_program(fault):
    place = place_of(fault, CHECKOUT)
    before, after = place.path.read_text(), faulty(fault, place)
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))


@pytest.mark.parametrize("tests", sorted({fault.tests for fault in FAULTS}))
def test_the_tests_that_should_notice_are_there(tests, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    assert pytest.main(["--collect-only", "-qq", "--capture=no", *shlex.split(tests)]) == 0


def test_no_two_faults_share_a_name():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_only_the_place_changes(project):
    place = place_of(FAULT, project())
    assert faulty(FAULT, place) == MODULE.replace("a  # the first\n            + b", "(a - b)")


def test_a_statement_keeps_its_indentation(project):
    checkout = project("def f(x):\n    if x:\n        g()\n    return x\n")
    fault = replace(
        FAULT, where="bench.f", right="if x: g()", wrong="for y in x:\n    if y:\n        g()"
    )
    assert faulty(fault, place_of(fault, checkout)) == (
        "def f(x):\n    for y in x:\n        if y:\n            g()\n    return x\n"
    )


@pytest.mark.parametrize("path", ["bench/inner/sums.py", "bench/other.py", "bench/__init__.py"])
def test_a_fault_moves_with_its_file(project, path):
    checkout = project(path=path)
    assert place_of(FAULT, checkout).path == checkout / path


@pytest.mark.parametrize("path", ["bench/inner/sums.py", "bench/inner/sums/__init__.py"])
def test_a_name_may_carry_its_module(project, path):
    checkout = project(path=path)
    for where in ("bench.inner.sums.Sum.of", "bench.sums.Sum.of"):
        assert place_of(replace(FAULT, where=where), checkout)
    for where in ("bench.products.Sum.of", "attacks.Sum.of", "bench.of"):
        with pytest.raises(Unusable, match=f"nothing is called {where}"):
            place_of(replace(FAULT, where=where), checkout)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (MODULE.replace("def of", "def over"), "nothing is called bench.Sum.of"),
        (MODULE.replace("+ b", "+ 1"), "bench.Sum.of (bench/sums.py) holds it 0 times: a + b"),
        (MODULE.replace("2", "(a + b)"), "bench.Sum.of (bench/sums.py) holds it 2 times: a + b"),
    ],
    ids=["renamed", "rewritten", "twice"],
)
def test_a_lost_fault_is_one_line_before_any_test_runs(project, module, reason):
    checkout = project(module, test="raise SystemExit('it ran')")
    with pytest.raises(Unusable) as told:
        judge([FAULT], checkout)
    assert str(told.value) == f"a sum is a difference: {reason}"


def test_every_lost_fault_is_told(project):
    others = [replace(FAULT, name=f"fault {n}", right=f"a + {n}") for n in range(2)]
    with pytest.raises(Unusable) as told:
        located([others[0], FAULT, others[1]], project())
    assert [line.partition(":")[0] for line in str(told.value).splitlines()] == [
        "fault 0",
        "fault 1",
    ]


def test_code_that_is_no_python_is_one_line(project):
    with pytest.raises(Unusable) as told:
        located([FAULT, replace(FAULT, name="another")], project("def of(:"))
    assert str(told.value).startswith("bench/sums.py: ")
    assert "\n" not in str(told.value)


def test_a_fault_is_noticed_or_not(project, capsys):
    harmless = replace(FAULT, name="the order of a sum", wrong="b + a")
    rows = judge([FAULT, harmless], project(), jobs=2)
    assert rows == [
        (FAULT, "bench/sums.py", "tests/test_sum.py::test_one_and_one"),
        (harmless, "bench/sums.py", None),
    ]
    assert "NOT NOTICED  the order of a sum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (TEST.replace("== 4", "== 5"), "red without any fault"),
        (TEST.replace("def test_", "def no_"), "no tests ran"),
    ],
    ids=["red", "none"],
)
def test_tests_that_prove_nothing_are_told(project, test, reason):
    with pytest.raises(Unusable, match=reason):
        judge([FAULT], project(test=test))


def test_no_such_fault_is_a_line_and_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["no such fault"])
    assert "no fault is called no such fault" in capsys.readouterr().err


def test_it_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, Path("tests") / "mutations.py", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "--jobs" in done.stdout


def test_rows_of_faults_that_were_not_tried_again_stay_as_they_stand(tmp_path):
    first, second = FAULTS[:2]
    page = tmp_path / "score.md"
    before = table([(first, "a.py", "tests/test_a.py::test_it"), (second, "b.py", None)])
    page.write_text("\n".join(markdown(before)))
    assert table_of(page) == before
    assert "1 of 2 are noticed" in page.read_text()
    again = {**table_of(page), **table([(second, "b.py", "tests/test_b.py::test_it")])}
    text = "\n".join(markdown(again))
    assert "2 of 2 are noticed" in text
    assert before[first.name] in text
    assert "not noticed" not in text


def test_a_row_of_a_fault_that_is_no_more_is_left_out():
    gone = replace(FAULTS[0], name="no fault any more")
    assert gone.name not in "\n".join(markdown(table([(gone, "a.py", None)])))
