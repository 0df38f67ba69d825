"""How far a run is, how long it will go on, and what it left out."""

from __future__ import annotations

import pytest

from bench.harness.progress import headline
from bench.measure import resolve
from bench.spec import estimates
from bench.spec.cell import Cell
from bench.spec.estimates import Estimates, cell_task, victim_task

PIXEL, WANET = Cell("digits", attack="pixel"), Cell("digits", attack="wanet")
REPAIRED = Cell("digits", attack="pixel", defense="fine_pruning")


def test_a_cell_takes_what_it_took_before_and_its_victims_training(workspace):
    seconds = {victim_task(PIXEL): 4.0, cell_task(PIXEL): 0.5, cell_task(REPAIRED): 2.0}
    known = Estimates(seconds, {})
    jobs = pixel, repaired = [resolve(cell, workspace, known) for cell in (PIXEL, REPAIRED)]
    trained = {pixel.victim.key}
    assert (pixel.expected_s, repaired.expected_s) == (0.5, 2.0)
    assert known.total(jobs) == 6.5
    assert known.total(jobs, ready=trained) == 2.5
    assert known.total(jobs, done={pixel.key}, ready=trained) == 2.0


def test_a_plugin_nobody_has_timed_takes_what_its_likes_take(workspace):
    known = Estimates({victim_task(PIXEL): 4.0, cell_task(PIXEL): 0.5}, {})
    wanet, repaired = (resolve(cell, workspace) for cell in (WANET, REPAIRED))
    assert known.total([wanet]) == 4.5
    assert known.total([repaired], ready={repaired.victim.key}) is None


def test_a_reference_is_scaled_to_this_machine():
    reference = {victim_task(PIXEL): 2.0, cell_task(REPAIRED): 3.0}
    assert Estimates({victim_task(PIXEL): 4.0}, reference).seconds(cell_task(REPAIRED)) == 6.0
    assert Estimates({}, reference).seconds(cell_task(REPAIRED)) == 3.0


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', "\x00"])
def test_damaged_timings_count_as_none(tmp_path, text):
    (tmp_path / estimates.FILE).write_text(text)
    assert estimates.load(tmp_path).here == {}


def test_what_was_learned_is_known_the_next_time(tmp_path):
    first = estimates.load(tmp_path)
    first.learn(cell_task(PIXEL), 7.0)
    estimates.save(tmp_path, first)
    assert estimates.load(tmp_path).seconds(cell_task(PIXEL)) == 7.0


def test_the_reference_knows_every_cell_of_digits():
    from bench.harness.selection import Axes, everything

    reference = estimates.load_reference()
    cells = everything(Axes(("digits",), ("simplecnn",), (0,)))
    keys = {key for cell in cells for key in (cell_task(cell), victim_task(cell))}
    assert keys <= set(reference)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59.6, "60 s"), (240, "4 min"), (7800, "2 h 10 min")]
)
def test_times_are_told_to_the_precision_they_have(seconds, text):
    assert estimates.clock(seconds) == text


def test_a_headline_is_made_of_what_was_measured():
    assert headline(PIXEL, {"clean_accuracy": 0.986, "asr": 0.997, "ra": 0.1}) == (
        "clean accuracy 98.60 %, ASR 99.70 %"
    )
    assert headline(REPAIRED, {"clean_accuracy": 0.98, "asr_before": 0.07, "asr": 0.0}) == (
        "clean accuracy 98.00 %, ASR before 7.00 %, ASR 0.00 %, the attack did not take"
    )
    assert headline(PIXEL, {}) == ""


STUDY = ("--attack=none", "--defense=none,activation_clustering")


def test_without_a_terminal_a_line_every_half_minute_at_most(bench):
    result = bench(*STUDY)
    lines = [line for line in result.outlines if "digits-simplecnn-none" in line]
    assert not [line for line in lines if "/2  " in line], "it took less than half a minute"
    assert "%]" not in result.stdout.str()


def test_every_cell_may_be_told(bench, monkeypatch):
    monkeypatch.setattr("bench.harness.progress.EVERY_S", 0.0)
    result = bench(*STUDY)
    result.stdout.fnmatch_lines(
        [
            "1/2  pass *digits-simplecnn-none-s0  clean accuracy 9*about * left",
            "2/2  pass *digits-simplecnn-none-activation_clustering-s0  FPR 0.00 %*",
        ]
    )


def test_verbose_lines_carry_the_figures_and_quiet_ones_nothing(bench):
    verbose = bench("-v", *STUDY)
    verbose.stdout.fnmatch_lines(["*test_attack*digits-simplecnn-none-s0* PASSED clean accuracy*"])
    quiet = bench("-q", *STUDY)
    assert ".." in quiet.stdout.str()
    quiet.stdout.no_fnmatch_line("*clean accuracy 9*ASR*left*")


def test_what_was_left_out_is_told_with_its_command(bench):
    result = bench(*STUDY)
    (line,) = [line for line in result.outlines if line.startswith("left out")]
    assert "cells of everything, " in line
    assert line.endswith(" here: pytest bench --suite all --dataset digits")
