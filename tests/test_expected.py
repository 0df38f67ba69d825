from __future__ import annotations

import pytest

from attacks import ATTACKS
from bench.expected import claims, expectations
from bench.expected.expectations import Bound
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.errors import BenchError
from fixtures.models import MODELS

KNOWN = (
    'known = {models = ["simplecnn"], attacks = ["none", "pixel"], defenses = ["none", "nad"]}\n'
)


def test_a_file_says_gates_tolerance_and_remarks(tmp_path, monkeypatch):
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(
        KNOWN + "[gates.simplecnn.pixel.nad]\nasr = '<= 0.25'\n[tolerance]\nasr = 0.5\n"
        "[remarks.simplecnn.nad]\npixel = 'its teacher keeps the backdoor'\n"
    )
    cell = Cell("blobs", attack="pixel", defense="nad")
    assert expectations.gates(cell) == [Bound("asr", "<=", 0.25)]
    assert expectations.remark(cell) == "its teacher keeps the backdoor"
    assert expectations.tolerance("blobs")["asr"] == 0.5
    assert expectations.tolerance("blobs")["der"] == expectations.tolerance("other")["der"]
    assert not expectations.gates(cell.undefended)
    assert not expectations.remark(cell.undefended)


@pytest.mark.parametrize(
    ("model", "attack", "defense", "known"),
    [
        ("simplecnn", "pixel", "nad", True),
        ("vit", "pixel", "nad", False),
        ("simplecnn", "mine", "nad", False),
        ("simplecnn", "pixel", "mine", False),
    ],
)
def test_a_cell_is_known_if_all_of_its_plugins_are(
    model, attack, defense, known, tmp_path, monkeypatch
):
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)
    assert not expectations.is_known(Cell("blobs", model, attack, defense))
    (tmp_path / "dots.toml").write_text(KNOWN)
    assert expectations.is_known(Cell("dots", model, attack, defense)) is known


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[gates.simplecnn.pixle.none]\nasr = '>= 1'",
            "gates.simplecnn.pixle: unknown; known: none",
        ),
        (
            "[gates.simplecnn.pixel.nda]\nasr = '>= 1'",
            "gates.simplecnn.pixel.nda: unknown; known: n",
        ),
        ("[gates.simplecn.pixel.nad]\nasr = '>= 1'", "gates.simplecn: unknown; known: simplecnn"),
        (
            "[gates.simplecnn.pixel.nad]\nars = '>= 1'",
            "gates.simplecnn.pixel.nad.ars: unknown; kno",
        ),
        (
            "[gates.simplecnn.pixel.nad]\nasr = 'about 1'",
            'gates.simplecnn.pixel.nad.asr: expected ">= 0.9" or the like, got "about 1"',
        ),
        ("[gates.simplecnn.pixel.nad]\nasr = 0.9", "Expected `str`, got `float`"),
        ("[remarks.simplecnn.nad]\npixle = 'why'", "remarks.simplecnn.nad.pixle: unknown; known: "),
        ("[tolerance]\nars = 0.1", "tolerance.ars: unknown; known: clean_accuracy, asr"),
        ("[tolerance]\nasr = -0.1", "tolerance.asr: -0.1 is below 0"),
        ("[tolerance]\nasr = 'low'", "tolerance[...]: Expected `float`, got `str`"),
        ("[tolerances]\nasr = 0.1", "Object contains unknown field `tolerances`"),
        ("[tolerance", "blobs.toml: "),
    ],
)
def test_a_misspelt_entry_is_one_line_that_names_file_and_entry(text, said, tmp_path):
    path = tmp_path / "blobs.toml"
    path.write_text(f"{KNOWN}{text}\n")
    with pytest.raises(BenchError) as error:
        expectations.expectations(path)
    assert "blobs.toml: " in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[bounds.attack]\nasr = '>= 1'\n", "bounds = {x = {}}"])
def test_defaults_that_lack_something_are_named(text, tmp_path):
    path = tmp_path / "defaults.toml"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"^defaults\.toml: "):
        expectations.defaults(path)


@pytest.mark.parametrize("dataset", ["mnist", "digits"])
def test_the_committed_files_name_what_exists(dataset):
    found = expectations.of(dataset)
    assert set(found.known.models) <= set(MODELS.names())
    assert set(found.known.attacks) <= set(ATTACKS.names())
    assert set(found.known.defenses) <= {"none", *DEFENSES.names()}
    assert found.gates


@pytest.mark.parametrize("flavour", ["attack", "samples", "model", "inputs", "repair"])
def test_every_kind_has_a_default_bound(flavour):
    bounds = expectations.default_bounds(flavour)
    assert bounds
    assert {bound.metric for bound in bounds} <= set(METRICS)


def test_the_study_claims_of_attacks_and_defenses():
    assert claims.claim("pixel", "none") == "99% / 95%"
    assert claims.claim("pixel", "fine_pruning") == "the backdoor is removed"
    assert claims.claim("none", "fine_pruning") == claims.claim("sig", "none") == ""
    assert claims.notebook("fine_pruning") == "ASR after the repair was never measured"
    assert claims.notebook("patch") == claims.notebook("unheard_of") == ""
