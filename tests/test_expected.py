from __future__ import annotations

import pytest

from attacks import ATTACKS
from bench.expected import expectations, gate_files
from bench.expected.bounds import Bound
from bench.expected.study import study
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.errors import BenchError
from fixtures.models import MODELS

KNOWN = (
    'known = {models = ["simplecnn"], attacks = ["none", "pixel"], defenses = ["none", "nad"]}\n'
)
CLAIM = """
[[claims]]
source = "somebody"
attacks = ["pixel"]
defenses = ["nad"]
bounds = { asr = "<= 0.25" }
"""


def test_a_file_says_claims_tolerance_and_remarks(tmp_path, monkeypatch):
    monkeypatch.setattr(expectations, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(
        f"{KNOWN}{CLAIM}clean = 300\n[tolerance]\nasr = 0.5\n"
        "[remarks.simplecnn.nad]\npixel = 'its teacher is a copy of the victim'\n"
    )
    cell = Cell("blobs", attack="pixel", defense="nad")
    (claim,) = expectations.claims("blobs")
    assert (claim.source, claim.model, claim.clean) == ("somebody", "simplecnn", 300)
    assert list(claim.cells()) == [("pixel", "nad")]
    assert claim.limits() == [Bound("asr", "<=", 0.25)]
    assert expectations.remark(cell) == "its teacher is a copy of the victim"
    assert expectations.tolerance("blobs")["asr"] == 0.5
    assert expectations.tolerance("blobs")["der"] == expectations.tolerance("other")["der"]
    assert not expectations.claims("other")
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
            CLAIM.replace("pixel", "pixle"),
            "claims 1 (somebody).attacks.pixle: unknown; known: none",
        ),
        (CLAIM.replace('"nad"', '"nda"'), "claims 1 (somebody).defenses.nda: unknown; known: "),
        (CLAIM + "model = 'vit'", "claims.vit: unknown; known: simplecnn"),
        (CLAIM.replace("asr", "ars"), "claims 1 (somebody).bounds.ars: unknown; known: clean_a"),
        (
            CLAIM.replace("<= 0.25", "about 1"),
            'claims 1 (somebody).bounds.asr: expected ">= 0.9" or the like, got "about 1"',
        ),
        (CLAIM.replace('"<= 0.25"', "0.9"), "Expected `str`, got `float`"),
        (CLAIM + "clean = 0", "claims 1 (somebody).clean: 0 is below 1"),
        (
            CLAIM.replace('"nad"', '"none"') + "clean = 9",
            "claims 1 (somebody).clean: an attack's own figures need no images",
        ),
        (CLAIM.replace('["pixel"]', "[]"), "source, attacks, defenses or bounds are empty"),
        (CLAIM.replace('source = "somebody"', ""), "missing required field `source`"),
        ("[remarks.simplecnn.nad]\npixle = 'why'", "remarks.simplecnn.nad.pixle: unknown; known: "),
        ("[tolerance]\nars = 0.1", "tolerance.ars: unknown; known: clean_accuracy, asr"),
        ("[tolerance]\nasr = -0.1", "tolerance.asr: -0.1 is below 0"),
        ("[tolerance]\nasr = 'low'", "tolerance[...]: Expected `float`, got `str`"),
        ("[gates.simplecnn.pixel.nad]\nasr = '>= 1'", "Object contains unknown field `gates`"),
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


GATES = "[[gates]]\n[gates.cells.simplecnn]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{GATES}pixel.nad = {{ ars = '>= 1' }}", "simplecnn.pixel.nad.ars: unknown; known: "),
        (f"{GATES}pixel.nad = {{ asr = '1' }}", 'simplecnn.pixel.nad.asr: expected ">= 0.9" or '),
        (f"{GATES}pixel.nad = {{}}\n{GATES}pixel.nad = {{}}", "simplecnn.pixel.nad: stands there"),
        ("[[gate]]", "Object contains unknown field `gate`"),
    ],
)
def test_a_file_of_gates_that_somebody_spoilt_is_one_line(text, said, tmp_path, monkeypatch):
    monkeypatch.setattr(gate_files, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(text)
    with pytest.raises(BenchError, match=r"^blobs\.toml: .*$") as error:
        gate_files.gates("blobs", "simplecnn", "pixel", "nad", None)
    assert said in str(error.value)


def test_gates_are_of_one_number_of_clean_images(tmp_path, monkeypatch):
    monkeypatch.setattr(gate_files, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(
        f"{GATES}pixel.nad = {{ asr = '<= 0.1' }}\n"
        "[[gates]]\nclean = 50\n[gates.cells.simplecnn]\npixel.nad = { asr = '<= 0.2' }\n"
    )
    cell = ("blobs", "simplecnn", "pixel", "nad")
    assert gate_files.gates(*cell, None) == [Bound("asr", "<=", 0.1)]
    assert gate_files.gates(*cell, 50) == [Bound("asr", "<=", 0.2)]
    assert gate_files.gates(*cell, 300) == []


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


@pytest.mark.parametrize("flavour", ["attack", "samples", "model", "inputs", "repair"])
def test_every_kind_has_a_default_bound(flavour):
    bounds = expectations.default_bounds(flavour)
    assert bounds
    assert {bound.metric for bound in bounds} <= set(METRICS)


def test_the_study_tells_of_attacks_and_defenses():
    assert study().of("pixel", "none").says == "99 % / 95 %"
    assert study().of("pixel", "fine_pruning").says == "the backdoor is removed"
    assert study().of("pixel", "fine_pruning").notebook.startswith("no ASR after the repair")
    assert study().of("sig", "none") is study().of("pixel", "nad") is None


def test_the_studys_claims_on_mnist_are_its_six_levels_at_the_precision_it_states_them_with():
    """A figure that rounds to the claimed per cent meets it: half a point below is the bound."""
    levels = {claim.level: claim for claim in expectations.claims("mnist") if claim.level}
    assert sorted(levels) == [1, 2, 3, 4, 5, 6]
    for level, (name, told) in enumerate(study().attack.items(), start=1):
        assert levels[level].attacks == [name]
        accuracy, asr = (float(part.removesuffix(" %")) / 100 for part in told.says.split(" / "))
        assert levels[level].limits() == [
            Bound("clean_accuracy", ">=", pytest.approx(accuracy - 0.005)),
            Bound("asr", ">=", pytest.approx(asr - 0.005)),
        ]
    for level, defense in enumerate(study().defense, start=5):
        assert levels[level].attacks == list(study().attack)
        assert levels[level].defenses == [defense]
        assert levels[level].clean == 300
