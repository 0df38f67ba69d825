"""The benchmark of speed measures what it says it measures."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch

from bench import speed
from bench.__main__ import main
from bench.analysis.series import measured
from bench.report.write_up import write_up
from bench.runtime import files
from bench.speed import cells, clock, graded, step
from bench.speed.records import made_up
from bench.store.records import Record
from fixtures import datasets, models
from fixtures.errors import BenchError
from fixtures.training import predict


def test_contestants_take_turns_and_the_median_counts():
    calls = []
    contestants = {
        "one": lambda number: calls.append(("one", number)),
        "two": lambda number: (calls.append(("two", number)), [5.0, 1.0, 9.0][number])[1],
    }
    times, returned = clock.interleaved(contestants, 3)
    assert calls == [(name, number) for number in range(3) for name in ("one", "two")]
    assert times["two"].median == 5.0  # it timed itself
    assert returned["two"] == [5.0, 1.0, 9.0]
    assert str(times["two"]) == "5.00 s (1.00 to 9.00)"
    assert times["one"].median < 1


def test_a_command_is_timed_with_the_memory_of_its_children():
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    done = clock.child(
        [sys.executable, "-c", nested, "x = b'0' * 300_000_000; import time; time.sleep(1)"]
    )
    assert done.seconds > 1
    assert 0.3 < done.peak_gb < 0.6


def test_a_command_that_fails_is_one_line():
    with pytest.raises(BenchError, match=r"exit code 1: .*ZeroDivisionError") as error:
        clock.child([sys.executable, "-c", "1 / 0"])
    assert "\n" not in str(error.value)


def test_a_stopwatch_times_functions_and_puts_them_back():
    with clock.stopwatch({"sleeping": (time, "sleep")}) as spent:
        time.sleep(0.05)
        time.sleep(0.05)
    assert 0.09 < spent["sleeping"] < 1
    assert time.sleep.__name__ == "sleep"


def test_the_page_keeps_the_parts_that_were_not_measured_again(tmp_path, monkeypatch, capsys):
    page = tmp_path / "speed.md"
    monkeypatch.setattr(datasets, "load", lambda *_: None)
    for round_ in ("first", "second"):
        for name in speed.PARTS:
            module = type(sys)(f"bench.speed.{name}")
            module.measure = lambda _data, _repeats, text=f"{round_} {name}": [text]
            monkeypatch.setitem(sys.modules, f"bench.speed.{name}", module)
        arguments = [] if round_ == "first" else ["step"]
        assert main(["speed", *arguments, "--to", str(page)]) == 0
    text = page.read_text()
    for name, title in speed.PARTS.items():
        assert f"## {title}\n" in text
        assert f"{'second' if name == 'step' else 'first'} {name}\n" in text
    assert f"torch {version('torch')}, " in text


@pytest.mark.parametrize(
    ("name", "says"),
    [("step", "2 times each, on "), ("proofs", "s, once, on "), ("cells", "Made of")],
)
def test_a_part_says_how_often_it_was_measured_and_on_what(name, says, tmp_path, monkeypatch):
    module = type(sys)(f"bench.speed.{name}")
    module.measure = lambda _data, _repeats: ["found"]
    monkeypatch.setitem(sys.modules, f"bench.speed.{name}", module)
    monkeypatch.setattr(datasets, "load", lambda *_: None)
    text = speed.measure(tmp_path / "speed.md", repeats=2, parts=[name]).read_text()
    assert says in text.partition("found")[2].partition("<!--")[0]


@pytest.fixture
def timed(make_record):
    """A record with the seconds of its phases, of one of two processors."""

    def make(cpu, attack, defense="none", **timings):
        record = make_record(attack, defense)
        environment = {**record.environment, "cpu": cpu, "threads": 1}
        return replace(record, timings=timings, environment=environment)

    return make


def test_times_of_two_processors_stand_apart_and_a_victim_counts_once(timed):
    found = [
        timed("Abacus", "pixel", train_s=3600.0, measure_s=720.0),
        timed("Abacus", "pixel", "strip", train_s=3600.0, defend_s=1800.0, measure_s=360.0),
        timed("Abacus", "pixel", "nad", train_s=3600.0, defend_s=0.5),
        timed("Slide rule", "pixel", "strip", train_s=2.0, defend_s=7.25),
    ]
    text = "\n".join(cells.lines(found))
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["pixel", "3600.0", ""] in rows
    assert ["strip", "1800.0", "7.2"] in rows
    assert ["nad", "0.5", ""] in rows
    assert [
        "digits / simplecnn / Abacus, 1 thread", "3", "1.00 h", "0.50 h", "0.30 h", "1.80 h"
    ] in rows  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["stop"], f"unknown part 'stop'; known: {', '.join(speed.PARTS)}"),
        (["--repeats", "0"], "--repeats: 0 is not a number of rounds, 1 or more"),
        (["--data-dir", "/nowhere"], "the data folder /nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
    assert main(["speed", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize(
    "rival", [graded.with_dataloader, graded.with_art], ids=["DataLoader", "ART"]
)
def test_the_rivals_learn(rival):
    if rival is graded.with_art:
        pytest.importorskip("art", reason="ART comes with the extra 'speed'")
    ds = datasets.load("digits")
    torch.manual_seed(0)
    net = models.build("simplecnn", ds)
    epoch = rival(net, ds.train.take(torch.arange(600)))
    for _ in range(12):
        epoch()
    accuracy = (predict(net, ds.test).argmax(1) == ds.test.labels).float().mean()
    assert accuracy > 0.8


def test_the_flop_of_a_step_are_those_of_its_layers():
    """Forward, and twice that backward, less the images, which need no gradient."""
    ds = datasets.load("digits")
    side = ds.shape[1]
    first = side**2 * 32 * 9 * 2
    second = (side // 2) ** 2 * 64 * 32 * 9 * 2
    dense = (64 * (side // 4) ** 2 * 128 + 128 * 10) * 2
    expected = step.BATCH * (3 * (first + second + dense) - first)
    assert step.flop_of_a_step(ds, torch.device("cpu")) == expected


def test_the_command_line_explains_itself_without_pytorch():
    program = "import sys; from bench.__main__ import main\ntry: main(['list', '--help'])\n" \
        "except SystemExit: print('torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_collecting_loads_no_library_that_only_measuring_needs(checkout):
    program = (
        "import pytest, sys\n"
        "assert pytest.main(['bench', '--dataset', 'digits', '--collect-only', '-q']) == 0\n"
        "print({'torchvision', 'sklearn', 'scipy', 'pandas', 'matplotlib'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stdout + done.stderr


def test_importing_the_package_gives_the_three_names():
    import bench
    from bench import Cell, Record, run

    assert (run.__name__, Cell.__name__, Record.__name__) == ("run", "Cell", "Record")
    assert {"Cell", "Record", "run"} <= set(dir(bench))
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'walk'"):
        bench.walk  # noqa: B018


def test_the_page_has_a_place_for_every_part(tmp_path):
    page = files.write(tmp_path / "speed.md", "".join(map(speed.section, speed.PARTS)))
    for name in speed.PARTS:
        files.replace_marked(page, name, "x")


def test_the_help_names_every_part(capsys):
    with pytest.raises(SystemExit):
        main(["speed", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(speed.PARTS)}. Default: all" in shown


def test_a_large_study_is_made_up_collected_and_written_up_in_small(tmp_path, capsys):
    run, study = tmp_path / "run", tmp_path / "study"
    made = list(made_up(attacks=3, defenses=5, data_sets=2, models=1, seeds=2))
    assert len({record.cell for record in made}) == len(made) == 3 * 5 * 2 * 2
    assert {record.kind for record in made} == {"attack", "detection", "repair", "training"}
    for record in made:
        record.save(record.path(run))
    assert main(["collect", str(run), "--to", str(study)]) == 0
    assert main(["report", str(study)]) == 0
    assert f"{len(made)} records of {study}" in capsys.readouterr().out
    with (study / "leaderboard.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(made) / 2


def test_a_write_up_hashes_the_identity_of_each_record_once(tmp_path, monkeypatch):
    hashed, series = [], Record.series.fget
    monkeypatch.setattr(
        Record, "series", property(lambda record: hashed.append(record) or series(record))
    )
    made = list(made_up(attacks=3, defenses=5, data_sets=1, models=1, seeds=2))
    write_up(measured(made), tmp_path)
    assert len(hashed) == len(made)
