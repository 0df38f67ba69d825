from __future__ import annotations

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.spec.identity import key
from bench.store import records
from bench.store.collect import add, of_run, write
from bench.store.records import BadRecord
from fixtures.errors import BenchError

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def some(make_record):
    """Four records, one with everything that may be left out."""
    full = make_record(
        "pixel",
        "fine_pruning",
        seed=1,
        asr=1 / 3,
        attack_params={"size": 0.2, "at": [1, 2]},
        details={"trajectory": [0.5]},
    )
    full.victim, full.attested, full.memory = "trained", "ab12", {"train_mib": 0.1 + 0.2}
    full.data = {"train": 72, "clean": 4, "validation": 4, "test": 20, "duplicates": 1}
    full.cell = dataclasses.replace(
        full.cell,
        dataset_params={"flips": True},
        recipe="sgd",
        recipe_params={"epochs": 3},
    )
    refused = make_record("pixel", "anp")
    refused.not_applicable = "the model has no units"
    return [make_record(seed=10, asr=1), make_record(seed=9, asr=0.1), full, refused]


@pytest.fixture
def packed(some, tmp_path):
    return write(some, tmp_path / "study" / "records.jsonl")


def change(path: Path, number: int, edit) -> None:
    """Edit one line of a file as the object that it holds."""
    lines = path.read_text().splitlines()
    content = json.loads(lines[number - 1])
    edit(content)
    lines[number - 1] = json.dumps(content)
    path.write_text("\n".join([*lines, ""]))


def test_what_a_run_saved_is_read_back_whole_but_for_its_details(some, tmp_path):
    """Memory is kept to a tenth of a MiB."""
    run = run_of(tmp_path / "run", *some)
    add(of_run(run), tmp_path / "study")
    saved = [
        dataclasses.replace(
            record, details={}, memory={name: round(mib, 1) for name, mib in record.memory.items()}
        )
        for record in records.load_all(run)
    ]
    back = records.load_all(tmp_path / "study")
    assert len(back) == 4
    assert {record.cell: record for record in back} == {record.cell: record for record in saved}
    assert {record.cell: record.series for record in back} == {r.cell: r.series for r in some}


def test_lines_are_sorted_by_cell_then_seed_whatever_order_is_given(some, packed):
    seeds = [r.cell.seed for r in records.load_lines(packed) if r.cell.attack_params == ()]
    assert seeds == [9, 10, 0]  # of pixel, then of pixel against anp
    before = packed.read_bytes()
    assert write(reversed(some), packed).read_bytes() == before


def test_what_was_not_asked_for_is_left_out_of_a_line_and_read_back(make_record, tmp_path):
    record = make_record(asr=0.5)
    (line,) = write([record], tmp_path / "records.jsonl").read_text().splitlines()
    assert not {"attack_params", "model_params", "clean"} & set(
        json.loads(line)["identity"]["asked"]
    )
    (back,) = records.load_lines(tmp_path / "records.jsonl")
    assert back.identity == record.identity


def test_an_identity_that_says_less_is_written_as_it_is(make_record, tmp_path):
    """Those of older versions lack a name, and what is not there is not read back."""
    record = make_record(asr=0.5)
    del record.identity["asked"]["dataset_params"]
    record.key = key(record.identity)
    write([record], tmp_path / "records.jsonl")
    (back,) = records.load_lines(tmp_path / "records.jsonl")
    assert back.identity == record.identity


def test_a_line_says_nothing_twice(make_record):
    """What the identity says of the cell and the environment, and what is empty, is left out."""
    content = json.loads(make_record(asr=0.5).line())
    assert set(content["cell"]) == set()
    assert not {"victim", "memory", "attested", "not_applicable", "details"} & set(content)
    assert not {"torch", "dtype"} & set(content["environment"])


def test_a_record_of_more_than_2_kb_fits_no_line(make_record, tmp_path):
    record = make_record(command="x" * 2048)
    with pytest.raises(BenchError, match=r"digits-simplecnn-pixel-s0: its record is \d+ bytes"):
        write([record], tmp_path / "records.jsonl")
    assert not (tmp_path / "records.jsonl").exists()


def one_line(error: pytest.ExceptionInfo[BenchError], path: Path, text: str) -> None:
    assert str(error.value) == f"{path}{text}"
    assert "\n" not in str(error.value)


def test_a_torn_last_line_is_named_and_the_file_left_alone(packed):
    torn = packed.read_bytes()[:-20]
    packed.write_bytes(torn)
    with pytest.raises(BadRecord) as error:
        records.load_all(packed.parent)
    one_line(error, packed, " line 4: cut off before its end; restore the file from a copy")
    assert packed.read_bytes() == torn


def test_a_line_cut_in_the_middle_of_a_file_is_named(packed):
    first, *rest = packed.read_text().splitlines(keepends=True)
    packed.write_text("".join([first[:50], "\n", *rest]))
    with pytest.raises(BadRecord, match=r"records.jsonl line 1: no JSON, or not all of it: "):
        records.load_lines(packed)


def test_a_cell_that_is_there_twice_is_named_with_both_lines(packed):
    lines = packed.read_text().splitlines(keepends=True)
    packed.write_text("".join([*lines, lines[1]]))
    with pytest.raises(BadRecord, match=r"-s1?[0-9] stands twice") as error:
        records.load_lines(packed)
    assert str(error.value).startswith(f"{packed} line 5: ")
    assert str(error.value).endswith(f"{packed} line 2")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda c: c["metrics"].update(asr="high"), 'metrics.asr: expected a number, got "high"'),
        (lambda c: c["metrics"].update(asr=None), "metrics.asr: expected a number, got null"),
        (lambda c: c.update(metrics=[0.5]), "metrics: expected an object, got [0.5]"),
        (
            lambda c: c["poison"].update(target=0.5),
            "poison.target: expected a whole number, got 0.5",
        ),
        (lambda c: c["cell"].update(seed="0"), 'cell.seed: expected a whole number, got "0"'),
        (lambda c: c["cell"].update(sede=0), "cell.sede: an unknown field"),
        (lambda c: c.update(colour="red"), "colour: an unknown field"),
        (lambda c: c.pop("key"), "key: missing"),
        (lambda c: c.pop("identity"), "cell.dataset: missing"),
        (lambda c: c.update(identity={"code": 1}, cell={}), "cell.dataset: missing"),
        (
            lambda c: c.update(victim="bought"),
            'victim: expected "trained" or "loaded" or "", got "bought"',
        ),
        (lambda c: c.update(schema=5), "schema 5, this version reads 4"),
        (lambda c: c.update(schema=3), "schema 3, this version reads 4"),
        (lambda c: c.pop("schema"), "schema null, this version reads 4"),
        (lambda c: c.update(command="x" * 2048), None),
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_field(edit, text, packed):
    change(packed, 2, edit)
    with pytest.raises(BadRecord) as error:
        records.load_lines(packed)
    if text is None:
        text = f"{len(packed.read_text().splitlines()[1])} bytes, a line may have 2048"
    one_line(error, packed, f" line 2: {text}")


@pytest.mark.parametrize(
    "line", ["[]", "7", "{", '{"schema": 4, "metrics": {"asr": NaN}}', "\udcff"]
)
def test_a_line_that_is_no_object_is_named(line, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(BadRecord, match=r"records.jsonl line 1: (no JSON|expected an object)"):
        records.load_lines(path)


def test_a_field_of_a_run_s_record_is_named_too(make_record, tmp_path):
    path = make_record().save(tmp_path / "cell.json")
    content = json.loads(path.read_text())
    content["timings"]["train_s"] = "long"
    del content["sha256"]
    path.write_text(json.dumps({**content, "sha256": records.checksum(content)}))
    with pytest.raises(BadRecord) as error:
        records.load(path)
    one_line(error, path, ': timings.train_s: expected a number, got "long"')


def test_a_run_s_record_that_was_altered_is_named(make_record, tmp_path):
    path = make_record(asr=0.25).save(tmp_path / "cell.json")
    path.write_text(path.read_text().replace("0.25", "0.99"))
    with pytest.raises(BadRecord, match="its checksum does not match"):
        records.load(path)


def run_of(folder: Path, *found) -> Path:
    for record in found:
        record.save(record.path(folder))
    return folder


def test_collect_adds_replaces_and_keeps(make_record, tmp_path, capsys):
    run, study = tmp_path / "run", tmp_path / "study"
    run_of(run, make_record(seed=0, asr=0.1), make_record(seed=1, asr=0.2))
    assert main(["collect", str(run), "--to", str(study)]) == 0
    assert capsys.readouterr().out == f"{study / 'records.jsonl'}: 2 records, 2 new, 0 replaced\n"
    again = run_of(tmp_path / "again", make_record(seed=1, asr=0.3), make_record(seed=2, asr=0.4))
    assert main(["collect", str(again), "--to", str(study)]) == 0
    assert "3 records, 1 new, 1 replaced" in capsys.readouterr().out
    assert [r.metrics["asr"] for r in records.load_all(study)] == [0.1, 0.3, 0.4]


def test_collect_replaces_a_cell_whatever_code_had_made_it(make_record, tmp_path):
    study = tmp_path / "study"
    add(of_run(run_of(tmp_path / "old", make_record(code="1"))), study)
    new = make_record(code="2")
    said = add(of_run(run_of(tmp_path / "new", new, make_record("noise"))), study)
    assert said == [f"{study / 'records.jsonl'}: 2 records, 1 new, 1 replaced"]
    assert new.key in {record.key for record in records.load_all(study)}


def test_two_that_collect_at_once_both_have_their_records_in(make_record, tmp_path):
    study = tmp_path / "study"
    runs = [run_of(tmp_path / str(n), make_record(seed=n), make_record(seed=10)) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: add(of_run(run), study), runs))
    assert [r.cell.seed for r in records.load_all(study)] == [0, 1, 2, 3, 10]


def test_collect_changes_nothing_where_anything_is_wrong(make_record, packed, tmp_path, capsys):
    before = packed.read_bytes()
    study = packed.parent
    assert main(["collect", str(tmp_path / "nowhere"), "--to", str(study)]) == 2
    assert "nowhere: no records to collect" in capsys.readouterr().err
    run = run_of(tmp_path / "run", make_record(seed=3, asr=0.5), make_record(command="x" * 2048))
    assert main(["collect", str(run), "--to", str(study)]) == 2
    assert "digits-simplecnn-pixel-s0: its record is" in capsys.readouterr().err
    assert packed.read_bytes() == before
    packed.write_bytes(before[:-1])
    assert main(["collect", str(run_of(tmp_path / "b", make_record())), "--to", str(study)]) == 2
    assert "line 4: cut off" in capsys.readouterr().err
    assert packed.read_bytes() == before[:-1]


def test_a_run_beside_a_study_gives_its_details_once_it_is_collected(make_record, tmp_path):
    record = make_record(asr=0.5, details={"labels": ["3"]})
    add(of_run(run_of(tmp_path, record)), tmp_path)
    assert records.load_all(tmp_path) == [record]


def test_a_run_beside_a_study_of_other_figures_is_not_mixed_with_it(make_record, tmp_path):
    add(of_run(run_of(tmp_path, make_record(code="1", asr=0.5))), tmp_path)
    run_of(tmp_path, make_record(code="2", asr=0.6))
    with pytest.raises(BenchError, match=r"not in .*records.jsonl, so of another run") as error:
        records.load_all(tmp_path)
    assert f"python -m bench collect {tmp_path} --to {tmp_path}" in str(error.value)


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"no records \(expected records.jsonl or records/\*.json"):
        records.load_all(tmp_path)
    assert not records.holds_records(tmp_path)


@pytest.mark.parametrize("study", ["mnist", "digits", "sweep"])
def test_the_committed_records_are_written_as_they_are_read(study, tmp_path):
    path = CHECKOUT / "results" / study / "records.jsonl"
    found = records.load_lines(path)
    assert write(found, tmp_path / "records.jsonl").read_bytes() == path.read_bytes()
    assert all({"torch", "dtype", "commit", "cpu"} <= set(r.environment) for r in found)
    assert all(r.command and set(r.poison) for r in found)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda r: r.update(key="0" * 24), f"line 1: key: {'0' * 24} is not that of its identity"),
        (lambda r: r["identity"]["asked"].update(seed=8), "is not that of its identity"),
        (lambda r: r["poison"].pop("target"), "line 1: poison.target: missing"),
        (lambda r: r.pop("poison"), "line 1: poison: missing"),
    ],
    ids=["another key", "another identity", "poison that lacks a count", "no poison"],
)
def test_what_does_not_hold_together_is_named(packed, edit, text):
    change(packed, 1, edit)
    with pytest.raises(BadRecord, match=re.escape(text)):
        records.load_lines(packed)


def test_an_empty_file_holds_no_records(tmp_path):
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(BenchError, match=r"records.jsonl: no records, the file is empty"):
        records.load_all(tmp_path)


def test_a_figure_that_is_no_number_fits_no_line(make_record):
    with pytest.raises(BenchError, match=r"pixel-s0: its record cannot be written"):
        make_record(asr=float("nan")).line()
