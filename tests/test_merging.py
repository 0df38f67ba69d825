"""Results folders that were made in several places, put together."""

from __future__ import annotations

import pytest

from bench.__main__ import main
from bench.store import collect, records


@pytest.fixture
def folder(tmp_path):
    """A results folder that holds some records."""

    def written(name, *found):
        (tmp_path / name).mkdir()
        collect.write(found, tmp_path / name / records.LINES)
        return tmp_path / name

    return written


def test_what_several_places_measured_is_one_study(folder, make_record, tmp_path, capsys):
    one = folder("one", make_record(seed=0), make_record(seed=1))
    two = folder("two", make_record(seed=1), make_record(seed=2))
    assert main(["merge", str(one), str(two), "--to", str(tmp_path / "all")]) == 0
    assert "3 records of 2 folders, 1 of them twice" in capsys.readouterr().out
    assert [r.cell.seed for r in records.load_all(tmp_path / "all")] == [0, 1, 2]


def test_what_is_there_already_stays(folder, make_record, tmp_path):
    study = folder("study", make_record(seed=5))
    one = folder("one", make_record(seed=0))
    assert main(["merge", str(one), "--to", str(study)]) == 0
    assert [r.cell.seed for r in records.load_all(study)] == [0, 5]


def test_figures_that_differ_under_one_identity_are_named_and_nothing_is_written(
    folder, make_record, tmp_path, capsys
):
    one, two = folder("one", make_record(asr=0.9)), folder("two", make_record(asr=0.8))
    assert main(["merge", str(one), str(two), "--to", str(tmp_path / "all")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "are of one identity and differ: asr 0.9 and 0.8" in line
    assert not (tmp_path / "all").exists()


def test_another_identity_of_one_cell_says_what_differs(folder, make_record, tmp_path, capsys):
    one, two = folder("one", make_record(code="1")), folder("two", make_record(code="2"))
    assert main(["merge", str(one), str(two), "--to", str(tmp_path / "all")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "are of two identities: code of" in line


def test_a_folder_without_records_is_one_line(tmp_path, capsys):
    assert main(["merge", str(tmp_path / "no"), "--to", str(tmp_path / "all")]) == 2
    assert "no records" in capsys.readouterr().err
