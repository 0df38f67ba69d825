"""What a run measures: suites, plugins by name, words of ``-k``, and the ids of tests."""

from __future__ import annotations

from itertools import pairwise

import pytest

from attacks import ATTACKS
from bench.harness import selection
from bench.harness.ids import cell_of
from bench.harness.selection import Axes
from bench.harness.words import words_of
from bench.spec import suites
from bench.spec.cell import Cell, flavour_of
from defenses import DEFENSES
from fixtures.errors import BenchError

DIGITS = Axes(("digits",), ("simplecnn",), (0,))
STUDY = {"none", "pixel", "noise", "blur", "patch"}
DEFENDED = {
    *("none", "activation_clustering", "largest_class"),
    *("fine_pruning", "fine_tuning", "from_scratch"),
}


def attacks_of(cells):
    return {cell.attack for cell in cells}


def defenses_of(cells):
    return {cell.defense for cell in cells}


def test_without_a_word_the_study_is_run():
    cells = selection.chosen(DIGITS)
    assert len(cells) == 30
    assert attacks_of(cells) == STUDY
    assert defenses_of(cells) == DEFENDED


def test_everything_is_every_attack_against_every_defense():
    cells = selection.chosen(DIGITS, suite="all")
    assert len(cells) == len(ATTACKS.names()) * (len(DEFENSES.names()) + 1)
    assert cells == selection.everything(DIGITS)


@pytest.mark.parametrize(
    ("suite", "kinds"),
    [
        ("attacks", {"attack"}),
        ("detection", {"attack", "detection"}),
        ("repair", {"attack", "repair"}),
    ],
)
def test_a_suite_may_name_a_kind_of_defense(suite, kinds):
    cells = selection.chosen(DIGITS, suite=suite)
    assert {cell.kind for cell in cells} == kinds
    assert attacks_of(cells) == set(ATTACKS.names())


def test_the_suite_of_models_has_every_detector_of_models_and_no_other_defense():
    cells = selection.chosen(DIGITS, suite="models")
    assert {flavour_of(cell.defense) for cell in cells} == {"attack", "model"}
    assert "none" in attacks_of(cells)


def test_suites_are_named_by_globs_and_a_cell_of_two_is_run_once():
    both = selection.chosen(DIGITS, suite="study,det*")
    assert len(both) == len(set(both))
    assert set(both) == {
        *selection.chosen(DIGITS, suite="study"),
        *selection.chosen(DIGITS, suite="detection"),
    }


def test_the_cells_of_a_victim_stand_together():
    cells = selection.chosen(Axes(("digits",), ("simplecnn",), (0, 1)), suite="all")
    victims = [cell.undefended for cell in cells]
    changes = sum(one != other for one, other in pairwise(victims))
    assert changes == len(set(victims)) - 1
    assert cells[0].id == "digits-simplecnn-none-s0"


def test_an_attack_named_alone_meets_everything():
    cells = selection.chosen(DIGITS, attack="wanet")
    assert attacks_of(cells) == {"wanet"}
    assert defenses_of(cells) == {"none", *DEFENSES.names()}


def test_an_attack_named_beside_a_suite_takes_the_place_of_its_attacks():
    cells = selection.chosen(DIGITS, suite="study", attack="wanet")
    assert attacks_of(cells) == {"wanet"}
    assert defenses_of(cells) == DEFENDED


def test_a_defense_named_alone_meets_every_attack():
    cells = selection.chosen(DIGITS, defense="strip")
    assert attacks_of(cells) == set(ATTACKS.names())
    assert defenses_of(cells) == {"strip"}


def test_a_plugin_named_in_k_is_looked_for_in_everything():
    added = set(selection.chosen(DIGITS, words=["wanet"])) - set(selection.chosen(DIGITS))
    assert attacks_of(added) == {"wanet"}
    assert defenses_of(added) == {"none", *DEFENSES.names()}


def test_what_options_fix_stays_fixed_beside_a_word_of_k():
    cells = selection.chosen(DIGITS, attack="wanet", defense="none", words=["wanet"])
    assert [cell.id for cell in cells] == ["digits-simplecnn-wanet-s0"]
    cells = selection.chosen(DIGITS, suite="study", attack="wanet", words=["anp"])
    assert attacks_of(cells) == {"wanet"}
    assert defenses_of(cells) == DEFENDED | {"anp"}


def test_only_whole_names_widen():
    study = selection.chosen(DIGITS)
    assert selection.chosen(DIGITS, words=["wane", "clustering", "repair"]) == study
    sig = set(selection.chosen(DIGITS, words=["sig"])) - set(study)
    assert attacks_of(sig) == {"sig"}, "spectral_signatures only holds the word"


def test_a_data_set_that_runs_anyway_widens_nothing():
    study = selection.chosen(DIGITS)
    assert selection.chosen(DIGITS, words=["digits", "simplecnn"]) == study
    wider = selection.chosen(DIGITS, words=["mnist"])
    assert {cell.dataset for cell in wider} == {"digits", "mnist"}


def test_a_network_of_a_library_is_a_word_too():
    pytest.importorskip("timm")
    wider = selection.chosen(DIGITS, words=["timm:resnet18"])
    assert {cell.model for cell in wider} == {"simplecnn", "timm:resnet18"}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("patch", ["patch"]),
        ("Patch and not repair", ["patch"]),
        ("not patch", []),
        ("not (patch or not wanet)", ["wanet"]),
        ("wanet or sig", ["wanet", "sig"]),
        ("pixel+size=0.2", ["pixel+size=0.2"]),
        ("", []),
        ("patch and (", []),
        ("it's", ["it's"]),
    ],
)
def test_words_under_not_only_narrow(expression, words):
    assert words_of(expression) == words


@pytest.mark.parametrize(
    "cell",
    [
        Cell("digits"),
        Cell("mnist", attack="wanet", defense="anp", seed=3),
        Cell("digits", attack="pixel", attack_params={"size": 0.2, "poison_rate": 0.1}),
        Cell("digits", attack="pixel", defense="strip", defense_params={"overlays": 5}),
        Cell("digits", attack="pixel", attack_params={"mapping": "all2all"}),
        Cell("digits", dataset_params={"flips": True}, model_params={"hidden": 64}),
        Cell("digits", recipe="sgd", recipe_params={"epochs": 3}, attack="pixel", defense="anp"),
    ],
    ids=lambda cell: cell.id,
)
def test_a_tests_id_names_its_cell(cell):
    assert cell_of(cell.id) == cell
    assert cell in selection.chosen(DIGITS, ids=[cell.id])


@pytest.mark.parametrize(
    "id",
    [
        *("", "digits", "digits-simplecnn-nobody-s0", "digits-simplecnn-pixel-anp-fast", "a-b-c-d"),
        *("digits-simplecnn@nobody-pixel-s0", "digits-simplecnn@+epochs=3-pixel-s0"),
    ],
)
def test_another_id_names_none(id):
    assert cell_of(id) is None


def test_a_team_declares_its_own(tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text('attacks = ["pixel+size=0.2", "p[ai]*"]\ndefenses = ["none", "f*pruning"]\n')
    cells = selection.chosen(DIGITS, suite_files=[suites.read(path)])
    assert [cell.id for cell in cells if cell.defense == "none"] == [
        "digits-simplecnn-pixel-s0",
        "digits-simplecnn-pixel+size=0.2-s0",
        "digits-simplecnn-patch-s0",
    ]
    assert len(cells) == 6


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("attacks = [", "Unclosed array|Invalid value|Unexpected"),
        ('attacks = ["*"]', r"defenses is missing, expected a list of names like"),
        ('attacks = "*"\ndefenses = ["none"]', r"attacks = '\*', expected a list of names"),
        ('attacks = []\ndefenses = ["none"]', r"attacks = \[\], expected a list of names"),
        ('attack = ["*"]\ndefenses = ["none"]', "unknown entry 'attack'; a suite has about, att"),
        ('about = 3\nattacks = ["*"]\ndefenses = ["none"]', "about = 3, expected a text"),
        ('attacks = ["pixle"]\ndefenses = ["none"]', r"unknown attack 'pixle' \(did you mean pix"),
        ('attacks = ["*"]\ndefenses = ["stripp"]', r"unknown defense 'stripp' \(did you mean str"),
        (
            'attacks = ["*"]\ndefenses = ["@both"]',
            "'@both' is no kind: @detection, @repair, @training, @samples",
        ),
        ('attacks = ["pixel+size"]\ndefenses = ["*"]', "'pixel.size': 'size' is not name=value"),
        ('attacks = ["pixel+sise=4"]\ndefenses = ["*"]', "'pixel.sise=4': .*'sise'"),
    ],
)
def test_a_suite_file_that_is_wrong_is_one_line_that_names_it(bench, tmp_path, text, complaint):
    path = tmp_path / "ours.toml"
    path.write_text(text)
    result = bench("--suite-file", str(path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert str(path) in line
    with pytest.raises(BenchError, match=complaint):
        selection.chosen(DIGITS, suite_files=[suites.read(path)])


def test_a_suite_file_that_is_not_there_is_one_line(bench, tmp_path):
    result = bench("--suite-file", "nowhere.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith(f"ERROR: --suite-file: {tmp_path / 'nowhere.toml'}: ")


def test_an_unknown_suite_is_one_line_with_near_names(bench):
    result = bench("--suite", "studdy")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line.strip()] == [
        "ERROR: --suite: unknown suite 'studdy' (did you mean study?); known: "
        "all, attacks, detection, duels, models, parity, repair, study, training"
    ]


def test_every_built_in_suite_says_what_it_is_for():
    listed = "all attacks detection duels models parity repair study training"
    assert suites.names() == listed.split()
    for suite in suites.named("*"):
        assert suite.about
        assert selection.chosen(DIGITS, suite=suite.name)
