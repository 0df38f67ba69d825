"""Published figures beside ours: which cells they are held against, what counts as an effect."""

import pytest

from bench.analysis.parity import parity
from bench.analysis.series import measured
from bench.expected import published
from bench.expected.published import Figures, Setting
from bench.report import parity as shown
from bench.spec.cell import kind_of
from defenses import DEFENSES
from fixtures.errors import BenchError

THEIRS = {"clean_accuracy": 0.9, "asr": 0.01}


@pytest.fixture
def one_setting(monkeypatch):
    """A published attack and repair, held against pixel at 10 % on digits."""
    setting = Setting(
        title="BadNets",
        published="CIFAR-10; somebody",
        dataset="digits",
        model="simplecnn",
        attack="pixel",
        attack_params={"poison_rate": 0.1},
        figures=[
            Figures("none", {"clean_accuracy": 0.91, "asr": 0.95}),
            Figures("anp", THEIRS, name="ANP", why="another network"),
            Figures("nad", {"asr": 0.6}),
        ],
    )
    monkeypatch.setattr("bench.analysis.parity.published", lambda: [setting])


@pytest.fixture
def rows(one_setting, make_record):
    """The rows that some records of that setting make, by defense."""

    def make(*records, params=(("poison_rate", 0.1),)):
        made = [
            make_record("pixel", name, attack_params=params, asr=asr, clean_accuracy=0.8)
            for name, asr in records
        ]
        ((_, found),) = parity(measured(made))
        return {row.told.defense: row for row in found}

    return make


def test_differences_are_ours_less_theirs(rows):
    found = rows(("anp", 0.03))["anp"]
    assert found.differences == {
        "clean_accuracy": pytest.approx(-0.1), "asr": pytest.approx(0.02),
    }  # fmt: skip


def test_a_repair_that_is_published_to_remove_has_to_remove_here(rows):
    assert rows(("anp", 0.1))["anp"].effect == "reached"
    assert rows(("anp", 0.11))["anp"].effect == "**not reached**"


def test_an_attack_that_is_published_to_take_has_to_take_here(rows):
    assert rows(("none", 0.9))["none"].effect == "reached"
    assert rows(("none", 0.89))["none"].effect == "**not reached**"


def test_a_repair_that_is_published_to_fail_has_no_effect_to_reach(rows):
    assert rows(("nad", 0.02))["nad"].effect == ""


def test_what_was_measured_in_another_setting_is_not_ours(rows):
    assert rows(("anp", 0.03), params=())["anp"].series is None
    assert rows(("anp", 0.03), params=(("poison_rate", 0.2),))["anp"].series is None


def test_the_page_has_both_figures_and_says_what_is_not_measured(one_setting, make_record):
    record = make_record(
        "pixel", "anp", attack_params=(("poison_rate", 0.1),), asr=0.03, clean_accuracy=0.8
    )
    text = shown.markdown(measured([record]))
    assert "anp (ANP) | clean accuracy (%) / ASR (%) | 90.00 / 1.00 | 80.00" in text
    assert "-10.00 / +2.00 | reached | another network |" in text
    assert "Here: not measured yet." in shown.markdown(measured([]))


def test_every_method_of_the_file_is_one_of_ours():
    for setting in published.published():
        for one in setting.figures:
            assert one.defense == "none" or one.defense in DEFENSES
            assert "asr" not in one.metrics or kind_of(one.defense) in ("attack", "repair")


def test_a_metric_that_there_is_not_is_one_line_that_names_it(tmp_path, monkeypatch):
    path = tmp_path / "published.toml"
    path.write_text(
        '[[settings]]\ntitle = "A"\npublished = "B"\ndataset = "digits"\nmodel = "simplecnn"\n'
        'attack = "pixel"\n[[settings.figures]]\ndefense = "anp"\nmetrics = { arsr = 0.1 }\n'
    )
    monkeypatch.setattr(published, "FILE", path)
    published.published.cache_clear()
    with pytest.raises(BenchError, match=r"published\.toml: A: anp: no metric arsr"):
        published.published()
    published.published.cache_clear()
