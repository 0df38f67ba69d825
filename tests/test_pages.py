"""Parts of pages that are made: of records and of the registries."""

from __future__ import annotations

import re

import pytest

from attacks import ATTACKS
from bench.__main__ import main
from bench.analysis.claims import standings
from bench.analysis.series import measured
from bench.analysis.studies import largest_first
from bench.report import claims, pages, study
from bench.report.write_up import write_up
from bench.runtime import files
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.errors import BenchError

BIG = {"training_samples": 57000}


@pytest.fixture
def records(make_record):
    """Three attacks of the study and one beyond it, on a small data set and a large one."""
    return crossed(make_record)


def crossed(make_record, clean=None):
    """``clean``: images of each class that the defender has."""
    made = []
    for dataset, poison in (("digits", {}), ("mnist", BIG)):
        for seed, asr in ((0, 0.98), (1, 1.0)):
            for attack in ("pixel", "noise", "blur", "sig"):
                about = {"dataset": dataset, "poison": poison}
                defended = {**about, "clean": clean}
                made += [
                    make_record(attack, "none", seed, asr=asr, clean_accuracy=0.99, **about),
                    make_record(attack, "fine_pruning", seed, asr=0.01, clean_accuracy=0.98,
                                der=0.9, **defended),
                    make_record(attack, "fine_tuning", seed, asr=0.5, clean_accuracy=0.5,
                                **defended),
                    make_record(attack, "activation_clustering", seed, f1=0.9, fpr=0.0,
                                false_labels=0.0, **defended),
                    make_record(attack, "spectral_signatures", seed, f1=0.1, fpr=0.0,
                                false_labels=0.0, **defended),
                ]  # fmt: skip
    return made


def rows(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def in_full(records):
    return claims.of_study(standings(largest_first(measured(records))))


def test_a_page_has_the_studys_claims_in_brief(make_record):
    heading, _, *found = rows(study.markdown(measured(crossed(make_record, clean=300))))
    assert heading == ["of", "the study says", "measured here", "bound", "state"]
    told, *_ = found
    assert told[:3] == ["pixel", "99 % / 95 %", "99.00 / 99.00 (20.26 to 100.00)"]
    assert told[3:] == [">= 98.50 % / >= 94.50 %", "met"]


def test_in_brief_those_that_do_not_meet_a_shared_claim_are_named(make_record):
    records = crossed(make_record, clean=300)
    for record in records:
        if record.cell.defense == "activation_clustering" and record.cell.attack != "blur":
            record.metrics["f1"] = 0.99
    *_, found, _removed = rows(study.markdown(measured(records)))
    assert found[2] == "pixel 0.990, noise 0.990, blur 0.900"
    assert found[4] == "met, but blur red"


def test_a_claim_that_was_not_run_has_no_figure(make_record):
    """At the default budget alone: the study's claims of defenses are of 300 images a class."""
    *_, found = rows(in_full(crossed(make_record)))
    assert found[1] == "blur, fine_pruning"
    assert (found[6], found[9]) == ("", "not measured")


def test_in_brief_attacks_that_share_a_claim_share_a_row(make_record):
    *_, found, removed = rows(study.markdown(measured(crossed(make_record, clean=300))))
    assert found[0] == "activation_clustering"
    assert found[2] == "pixel 0.900, noise 0.900, blur 0.900"
    assert found[4] == "red"
    assert removed[0] == "fine_pruning"


def test_the_studys_table_has_its_figures_its_notebooks_and_ours_level_by_level(make_record):
    records = crossed(make_record, clean=300)
    heading, _, *found = rows(in_full(records))
    assert heading == [
        *("level", "of", "the study says", "its notebook shows", "clean images a class"),
        *("figure", "measured here", "seeds", "bound", "state"),
    ]
    assert [(row[0], row[1]) for row in found] == [
        ("1", "pixel"),
        ("2", "noise"),
        ("3", "blur"),
        *(("5", f"{a}, activation_clustering") for a in ATTACKED),
        *(("6", f"{a}, fine_pruning") for a in ATTACKED),
    ]
    assert found[0][2:] == [
        *("99 % / 95 %", "", "", "clean accuracy / ASR", "99.00 / 99.00 (20.26 to 100.00)", "0, 1"),
        *(">= 98.50 % / >= 94.50 %", "met"),
    ]
    assert found[3][3:] == [
        *(
            "F1 0.30, on data without poison",
            "300",
            "F1",
            "0.900 (0.424 to 1.000)",
            "0, 1",
        ),
        *(">= 0.950", "red"),
    ]


ATTACKED = ("pixel", "noise", "blur")


def test_what_was_measured_at_the_default_stands_beside_the_claim(records):
    heading, _, *found = rows(in_full(records))
    assert heading[-1] == "at the default"
    detected = dict(zip(heading, found[3], strict=True))
    assert (detected["measured here"], detected["state"]) == ("", "not measured")
    assert detected["at the default"] == "25: 0.900 (0.424 to 1.000)"


def test_other_parameters_are_not_the_studys(records, make_record):
    swept = make_record(asr=0.1, clean_accuracy=0.1, dataset="mnist", poison=BIG,
                        attack_params={"poison_rate": 0.2})  # fmt: skip
    assert study.markdown(measured([*records, swept])) == study.markdown(measured(records))


def test_without_the_studys_attacks_its_table_is_one_line(make_record):
    with pytest.raises(BenchError, match=r"no records of what the study claims \(of pixel, noise"):
        study.markdown(measured([make_record("sig", asr=0.9)]))


@pytest.mark.parametrize("name", pages.SECTIONS)
def test_only_what_stands_between_the_markers_changes(name, records, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"My words.\n\n{files.marked(name, 'OUTDATED')}\n\nMore words.\n")
    assert pages.embed(measured(records), [page]) == [page]
    text = page.read_text()
    assert text.startswith(f"My words.\n\n<!-- {name}: begin -->\n\n")
    assert text.endswith(f"\n\n<!-- {name}: end -->\n\nMore words.\n")
    assert "OUTDATED" not in text
    pages.embed(measured(records), [page])
    assert page.read_text() == text


def test_a_page_gets_all_the_parts_it_has_markers_for(records, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(files.marked("leaderboard", "") + files.marked("study", ""))
    pages.embed(measured(records), [page])
    assert "**Repairs: mnist" in page.read_text()
    assert "the study says" in page.read_text()


def test_a_folder_stands_for_its_pages_with_markers(records, tmp_path):
    (tmp_path / "a.md").write_text(files.marked("metrics", ""))
    (tmp_path / "b.md").write_text("My words.\n")
    assert pages.embed(measured(records), [tmp_path]) == [tmp_path / "a.md"]
    assert (tmp_path / "b.md").read_text() == "My words.\n"


@pytest.mark.parametrize(
    "text", ["My words.\n", "<!-- study: begin -->\n", "<!-- study: end --><!-- study: begin -->"]
)
def test_a_page_without_markers_is_one_line_and_nothing_is_written(text, records, tmp_path, capsys):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(files.marked("study", "OUTDATED"))
    bad.write_text(text)
    for record in records:
        record.save(record.path(tmp_path))
    before = sorted(tmp_path.iterdir())
    assert main(["report", str(tmp_path), "--embed", str(good), "--embed", str(bad)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {bad}: no <!-- study: begin --> with a <!-- study: end -->")
    assert "OUTDATED" in good.read_text()
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_page_and_a_folder_without_any_are_one_line(tmp_path):
    with pytest.raises(BenchError, match=r"none\.md: No such file"):
        pages.embed(measured([]), [tmp_path / "none.md"])
    with pytest.raises(BenchError, match="no page in it has markers of study"):
        pages.embed(measured([]), [tmp_path])


def test_every_built_in_plugin_metric_and_suite_is_in_its_table():
    from bench.spec import suites

    def first(table):
        return {re.sub(r"\[?`([^`]+)`.*", r"\1", row[0]) for row in rows(table)[2:]}

    built_in = {n for n in ATTACKS.names() if ATTACKS[n].factory.__module__.startswith("attacks.")}
    assert first(pages.attacks()) == built_in >= {"none", *study.attacks()}
    assert first(pages.defenses()) >= {*study.defenses("detection"), *study.defenses("repair")}
    assert first(pages.defenses()) <= set(DEFENSES.names())
    assert first(pages.metrics()) == {metric.title for metric in METRICS.values()}
    assert first(pages.suite_files()) == set(suites.names())


def test_a_bar_in_a_cell_does_not_split_it():
    from bench.report.markdown import table

    assert table([{"a": "x|y", "empty": ""}]) == "| a |\n| --- |\n| x\\|y |"


def test_the_report_has_each_level_of_the_study_once(records, make_record, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.report.figures.draw_all", lambda *_: {})
    plain = make_record("none", "activation_clustering", fpr=0.0, false_labels=0.0)
    report = write_up(measured([*records, plain]), tmp_path).report.read_text()
    headings = [line for line in report.splitlines() if line.startswith("#")]
    levels = [line for line in headings if "Level" in line]
    assert levels == [
        "## Level 1: pixel",
        "## Level 2: noise",
        "## Level 3: blur",
        "## Level 5: detection",
        "## Level 6: repair",
    ]
    at = headings.index("## Level 5: detection")
    assert headings[at : at + 3] == [
        "## Level 5: detection",
        "### activation_clustering",
        "### spectral_signatures",
    ]
    beyond = headings.index("## Beyond the study")
    assert headings[beyond + 1] == "### sig"
    assert len(set(headings)) == len(headings)
