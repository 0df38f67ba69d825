from __future__ import annotations

import csv
import dataclasses
import io
import os
import shutil

import pytest

from bench.__main__ import main
from bench.analysis.series import measured
from bench.analysis.studies import every_cell, studies
from bench.report import leaderboard
from bench.report.write_up import write_up


@pytest.fixture
def records(make_record):
    """Two repairs and a detector on two attacks; the second repair is better but for one case."""
    made = []
    figures = {
        ("pixel", "fine_pruning"): {"der": 0.9, "asr": 0.2, "clean_accuracy": 0.98},
        ("noise", "fine_pruning"): {"der": 0.8, "asr": 0.4, "clean_accuracy": 0.97},
        ("pixel", "activation_clustering"): {"f1": 0.9, "fpr": 0.0, "tpr": 0.9},
        ("noise", "activation_clustering"): {"f1": 0.5, "fpr": 0.1, "tpr": 0.5},
        ("none", "activation_clustering"): {"fpr": 0.25},
    }
    for seed in (0, 1):
        for (attack, defense), found in figures.items():
            extra = {"false_labels": 0.0} if "fpr" in found else {}
            made.append(make_record(attack, defense, seed, **found, **extra))
        for attack in ("none", "pixel", "noise"):
            stealth = {"ssim": 0.9, "psnr": 20.0, "linf": 1.0, "changed": 0.01}
            made.append(make_record(attack, "none", seed, asr=0.99, clean_accuracy=0.98, **stealth))
    return made


@pytest.fixture
def rankings(records):
    (study,) = studies(measured(records))
    return {table.title: table for table in study.tables}


def markdown(records):
    return leaderboard.markdown(studies(measured(records)))


def html(records):
    found = measured(records)
    return leaderboard.html(found, studies(found))


def texts(table, column):
    return [row[column].text for row in table.rows]


def test_repairs_are_ranked_by_mean_der_with_the_worst_beside_it(rankings):
    table = rankings["Repairs"]
    assert texts(table, "defense") == ["fine_pruning"]
    assert texts(table, "DER, mean") == ["0.850"]
    assert texts(table, "DER, worst") == ["0.800 (noise)"]
    assert texts(table, "attacks") == ["2 of 2"]


def test_detectors_show_their_false_positives_on_clean_models(rankings):
    table = rankings["Detectors of poisoned samples"]
    assert texts(table, "F1, mean") == ["0.700 (0.380 to 0.920)"], "of 12 poisons in all"
    assert texts(table, "F1, worst") == ["0.500 ± 0.382 (noise)"]
    assert texts(table, "FPR, clean model (%)") == ["25.00 (19.07 to 31.71)"]


def test_attacks_are_ranked_by_the_asr_that_the_best_repair_leaves(rankings):
    table = rankings["Attacks"]
    assert texts(table, "attack") == ["noise", "pixel"]
    assert texts(table, "ASR left after the best repair (%)") == [
        "40.00 (fine_pruning)",
        "20.00 (fine_pruning)",
    ]
    assert texts(table, "F1 of the best detector")[0] == "0.500 ± 0.382 (activation_clustering)"
    assert texts(table, "SSIM") == ["0.900"] * 2


def test_the_best_of_two_repairs_counts(records, make_record):
    better = [
        make_record("noise", "fine_pruning", seed, asr=0.1, der=0.95, attack_params=())
        for seed in (0, 1)
    ]
    for record in better:
        record.cell = dataclasses.replace(record.cell, defense="another")
    (study,) = studies(measured([*records, *better]))
    table = {table.title: table for table in study.tables}["Attacks"]
    assert texts(table, "ASR left after the best repair (%)") == [
        "20.00 (fine_pruning)",
        "10.00 (another)",
    ]


def test_versions_of_a_defense_do_not_share_a_row(records, make_record):
    newer = [make_record("noise", "fine_pruning", seed, der=0.1, asr=0.9) for seed in (0, 1, 2)]
    for record in newer:
        record.identity["code"]["defense"] = "rewritten"
    (study,) = studies(measured([*records, *newer]))
    names = texts(study.tables[0], "defense")
    assert sorted(name.partition(" @")[0] for name in names) == ["fine_pruning"] * 2
    assert len(set(names)) == 2
    assert texts(study.tables[0], "DER, mean") == ["0.900", "0.100"]
    assert texts(study.tables[0], "attacks") == ["1 of 2", "1 of 2"]


def test_a_detector_that_always_says_guilty_earns_a_half(make_record):
    made = []
    for seed in (0, 1):
        for attack in ("none", "pixel", "noise"):
            right = float(attack != "none")
            extra = {"target_found": 1.0} if right else {"fpr": 1.0}
            made.append(
                make_record(
                    *(attack, "activation_clustering", seed), verdict_correct=right, **extra
                )
            )
    (study,) = studies(measured(made))
    table = study.tables[0]
    assert table.title == "Detectors of backdoored models"
    assert texts(table, "verdict correct (%), mean") == ["50.00 ± 38.19"], "of 6 verdicts"
    assert texts(table, "FPR, clean model (%)") == ["100.00 (15.81 to 100.00)"]


def test_a_mean_over_attacks_is_of_seeds_that_met_them_all(records):
    fewer = [r for r in records if (r.cell.attack, r.cell.seed) != ("noise", 1)]
    (study,) = studies(measured(fewer))
    (row,) = study.tables[0].rows
    assert row["DER, mean"].text == "0.850"
    assert row["DER, mean"].provenance.startswith("seeds 0;")
    assert row["seeds"].text == "0"


def test_plugins_that_are_not_loaded_are_unknown(records):
    for record in records:
        if record.cell.attack == "pixel":
            record.cell = dataclasses.replace(record.cell, attack="gone")
    (study,) = studies(measured(records))
    table = {table.title: table for table in study.tables}["Attacks"]
    assert dict(zip(texts(table, "attack"), texts(table, "needs"), strict=True)) == {
        "noise": "data",
        "gone": "unknown",
    }


def test_swept_cells_are_listed_and_not_ranked(records, make_record):
    swept = make_record(
        "pixel", "fine_pruning", der=0.1, asr=1.0, attack_params={"poison_rate": 0.2}
    )
    (study,) = studies(measured([*records, swept]))
    assert texts(study.tables[0], "DER, worst") == ["0.800 (noise)"]
    listed = every_cell(measured([*records, swept]))
    assert "pixel poison_rate=0.2" in texts(listed, "attack")


def test_identities_do_not_mix(records, make_record):
    newer = make_record("pixel", "fine_pruning", der=0.1, asr=1.0, clean_accuracy=0.5, code="2")
    (study,) = studies(measured([*records, newer]))
    assert texts(study.tables[0], "DER, mean") == ["0.850"]
    assert len(every_cell(measured([*records, newer])).rows) == 1 + len(
        every_cell(measured(records)).rows
    )


def test_another_kind_of_machine_is_listed_and_in_no_rank(records, make_record):
    elsewhere = [make_record("blur", "fine_pruning", seed, der=0.1, asr=1.0) for seed in range(3)]
    for record in elsewhere:
        record.identity["machine"]["threads"] = 64
    every = measured([*elsewhere, *records])
    (study,) = studies(every)
    assert texts(study.tables[0], "DER, mean") == ["0.850"]
    assert "In no rank: 3 records of another kind of machine." in study.complete
    assert "blur" in texts(every_cell(every), "attack")
    (alone,) = studies(measured(records))
    assert "In no rank" not in alone.complete


def test_a_leaderboard_says_how_many_cells_it_lacks(records):
    text = markdown(records)
    assert "Repair: 4 of 6 cells; 2 lacking: digits-simplecnn-none-fine_pruning-s0, " in text
    assert "Made by `pytest bench`." in text


def test_the_csv_has_every_cell_with_what_made_it(records):
    rows = list(csv.DictReader(io.StringIO(leaderboard.csv(measured(records)))))
    assert len(rows) == 8
    (row,) = [r for r in rows if (r["attack"], r["defense"]) == ("pixel", "fine_pruning")]
    assert float(row["der"]) == 0.9
    assert row["der_low"] == row["der_high"] == "", "nobody counted, and both seeds agree"
    assert (row["seeds"], row["command"], row["commit"]) == ("0, 1", "pytest bench", "0123456789")


def test_the_largest_data_set_leads_everywhere(records, make_record):
    big = make_record("pixel", "fine_pruning", dataset="mnist", der=0.7, asr=0.6,
                      poison={"training_samples": 57000})  # fmt: skip
    shown = [*records, big]
    assert [study.dataset for study in studies(measured(shown))] == ["mnist", "digits"]
    text = markdown(shown)
    assert text.index("Repairs: mnist") < text.index("Repairs: digits")
    rows = list(csv.DictReader(io.StringIO(leaderboard.csv(measured(shown)))))
    assert [row["dataset"] for row in rows] == ["mnist"] + ["digits"] * 8
    page = html(shown)
    assert page.index("<h2>mnist / simplecnn") < page.index("<h2>digits / simplecnn")


def test_in_brief_the_leading_study_has_its_repairs_and_detectors_and_nothing_aside(records):
    text = leaderboard.leading(studies(measured(records)))
    assert "**Repairs: digits / simplecnn**" in text
    assert "| rank | defense | DER, mean" in text
    assert "worst" not in text
    assert "Attacks" not in text
    assert text.endswith("the commands stand under the whole leaderboard.")
    assert leaderboard.leading([]) == "No records."


def test_a_larger_data_set_of_which_only_attacks_were_measured_does_not_lead_yet(
    records, make_record
):
    attack = make_record("pixel", dataset="mnist", asr=0.9, poison={"training_samples": 57000})
    text = leaderboard.leading(studies(measured([*records, attack])))
    assert "**Repairs: digits / simplecnn**" in text


def test_of_as_many_images_those_in_colour_are_the_larger_data_set(records, make_record):
    some = {"training_samples": 100}
    grey, colour = (
        make_record("pixel", dataset=name, asr=0.9, poison=some, data={"values": values})
        for name, values in (("mnist", 784), ("cifar10", 3072))
    )
    assert [study.dataset for study in studies(measured([grey, colour]))] == ["cifar10", "mnist"]


def test_the_page_says_where_an_attack_did_not_take(records):
    for record in records:
        if record.cell.attack == "noise" and record.kind == "attack":
            record.metrics["asr"] = 0.07
    page = html(records)
    assert "did not take: ASR 7 %</button></td>" in page  # in the heat maps, with what is behind it
    assert "did not take: ASR 7 %" in markdown(records)


def test_data_sets_of_one_size_stand_in_the_order_of_their_names(records, make_record):
    other = make_record("pixel", "fine_pruning", dataset="mnist", der=0.7)
    text = markdown([other, *records])
    assert text.index("Repairs: digits") < text.index("Repairs: mnist")


def test_a_second_write_changes_only_what_stands_between_the_markers(records, tmp_path):
    leaderboard.write(measured(records), tmp_path)
    page = tmp_path / "leaderboard.md"
    first = page.read_text()
    page.write_text(f"My words.\n\n{first}\nMore words.\n")
    leaderboard.write(measured(records), tmp_path)
    assert page.read_text() == f"My words.\n\n{first}\nMore words.\n"


def test_report_gathers_every_folder_but_the_latest(records, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for record in records:
        record.save(record.path(tmp_path / "results" / "committed"))
    stray = records[0]
    stray.cell = dataclasses.replace(stray.cell, dataset="mnist")
    stray.save(stray.path(tmp_path / "results" / "latest"))
    assert main(["report"]) == 0
    assert f"{len(records)} records of results/committed -> results" in capsys.readouterr().out
    made = sorted(path.name for path in (tmp_path / "results").iterdir() if path.is_file())
    assert made == ["leaderboard.csv", "leaderboard.html", "leaderboard.md"]
    assert "mnist" not in (tmp_path / "results" / "leaderboard.md").read_text()


def test_report_without_any_records_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert capsys.readouterr().err.startswith("error: results: no folder in it holds records")


def test_what_a_plugin_calls_itself_cannot_break_the_page(records):
    for record in records:
        record.command = "pytest bench -k '</script><script>alert(1)</script>'"
    page = html(records)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM and not os.environ.get("CI"):
        pytest.skip("needs Chromium")  # CI installs it, and fails here if it could not
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, records, make_record, tmp_path, workspace):
    """The page opened from disk, with no network; it may not say a word on the console."""
    from bench import Cell, run

    shown = [*records, make_record("patch", "fine_pruning", dataset="mnist", der=0.7, asr=0.6)]
    real = run(Cell("digits", attack="pixel"), workspace)
    shown.append(real)
    for record in records:
        if record.cell == real.cell:
            record.details = real.details  # so that there is a picture
    write_up(measured(shown), tmp_path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.goto((tmp_path / "leaderboard.html").as_uri())
    yield page
    context.close()
    assert said == []


def column(page, table, heading):
    """Texts of a table's visible column."""
    return page.eval_on_selector(
        f"[aria-label='{table}'] table",
        """(table, heading) => {
            const names = [...table.tHead.rows[0].cells].map((c) => c.innerText.split("\\n")[0]);
            const at = names.findIndex((name) => name.startsWith(heading));
            const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
            return rows.map((row) => row.cells[at].innerText.trim());
        }""",
        heading,
    )


def test_a_heading_sorts_up_and_down(page):
    heading = page.locator("[aria-label='Every cell'] th button", has_text="DER").first
    heading.click()
    assert column(page, "Every cell", "DER")[:3] == ["0.900", "0.800", "0.700"]
    heading.click()
    assert column(page, "Every cell", "DER")[:3] == ["0.700", "0.800", "0.900"]
    assert page.locator("[aria-label='Every cell'] th[aria-sort=ascending]").count() == 1


def test_sorting_works_by_keyboard(page):
    page.locator("[aria-label='Attacks: digits'] th button", has_text="attack").first.focus()
    page.keyboard.press("Enter")
    assert column(page, "Attacks: digits", "attack") == ["noise", "pixel"]  # A to Z
    page.keyboard.press("Enter")
    assert column(page, "Attacks: digits", "attack") == ["pixel", "noise"]


def test_a_table_of_figures_is_one_stop_and_arrows_go_on(page):
    table = page.locator("[aria-label='Every cell'] table")
    assert table.locator(".figure[tabindex='0']").count() == 1
    first = table.locator(".figure[tabindex='0']")
    first.focus()
    before = page.evaluate("document.activeElement.closest('td').cellIndex")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('td').cellIndex") == before
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('td').cellIndex") > before
    assert table.locator(".figure[tabindex='0']").count() == 1


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("dataset", "mnist", {"patch"}),
        ("attack", "noise", {"noise"}),
        ("kind", "samples", {"none", "pixel", "noise"}),
        ("power", "training", {"patch"}),
    ],
)
def test_filters_leave_what_was_asked_for(page, name, value, left):
    page.select_option(f"select[name={name}]", value)
    assert set(column(page, "Every cell", "attack")) == left
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.getElementById('shown').textContent.startsWith('10 of 10 ')")


def test_a_filter_hides_a_study_that_has_nothing_left(page):
    page.select_option("select[name=dataset]", "mnist")
    assert page.locator(".study:visible").count() == 1
    assert page.locator(".triggers figure:visible").count() == 0


def test_every_figure_shows_where_it_comes_from(page):
    figure = page.locator("[aria-label='Repairs: digits'] .figure").first
    assert figure.get_attribute("title") == "seeds 0, 1; pytest bench; commit 0123456789"
    figure.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] p").inner_text() == figure.get_attribute("title")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_heat_maps_shade_by_how_bad_a_cell_is(page):
    shades = page.eval_on_selector_all(
        "[aria-label='ASR after repair (%): digits'] .shade",
        "cells => cells.map((c) => [c.innerText, getComputedStyle(c).backgroundColor])",
    )
    assert [text.strip() for text, _ in shades[:2]] == ["20.00", "40.00"]
    assert len({colour for _, colour in shades}) == len(shades)


def test_every_trigger_has_its_picture(page):
    sizes = page.eval_on_selector_all(
        ".triggers img", "images => images.map((i) => [i.naturalWidth, i.alt])"
    )
    ((width, text),) = sizes
    assert width > 500
    assert text == "pixel on digits: clean, triggered, difference"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def contrast(page, selector):
    """The least contrast of some text against what lies behind it, as WCAG defines it."""
    return page.eval_on_selector_all(
        selector,
        """(elements) => Math.min(...elements.map((element) => {
            const solid = (e) => {
                const colour = getComputedStyle(e).backgroundColor;
                return colour === "rgba(0, 0, 0, 0)" ? solid(e.parentElement) : colour;
            };
            // A canvas turns whatever the page mixes into red, green and blue.
            const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
                .getContext("2d", {willReadFrequently: true});
            const pixel = (colour) => {
                pen.fillStyle = colour;
                pen.fillRect(0, 0, 1, 1);
                return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const linear = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
            const light = (colour) => pixel(colour).map((v) => linear(v / 255))
                .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
            const [a, b] = [light(getComputedStyle(element).color), light(solid(element))];
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        }))""",
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("selector", ["body", ".soft", ".shade", "td", "th", "figcaption"])
def test_text_is_readable_in_light_and_dark(page, scheme, selector):
    page.emulate_media(color_scheme=scheme)
    assert contrast(page, selector) >= 4.5
