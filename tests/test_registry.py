from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from attacks import ATTACKS, attack
from fixtures import registry
from fixtures.datasets import dataset
from fixtures.errors import DuplicateName, PluginError, UnknownName
from fixtures.models import MODELS, model
from fixtures.registry import Registry


@dataclass(frozen=True)
class ThingInfo:
    source: str = ""


@pytest.fixture
def things() -> Registry[str, ThingInfo]:
    things: Registry[str, ThingInfo] = Registry("thing", ThingInfo, group="triggerbench.things")
    for name in ("patch", "patchwork", "pixel"):
        things.register(name)(lambda name=name: f"a {name}")
    return things


def test_names_are_selected_by_glob(things):
    assert things.names("pa*") == ["patch", "patchwork"]
    assert things.names() == ["patch", "patchwork", "pixel"]


def test_an_unknown_name_lists_near_ones(things):
    with pytest.raises(UnknownName) as error:
        things.create("pixle")
    assert str(error.value) == (
        "unknown thing 'pixle' (did you mean pixel?); known: patch, patchwork, pixel"
    )


def test_a_duplicate_name_raises_and_names_both(things):
    with pytest.raises(DuplicateName, match=r"thing 'pixel' is registered twice: .* and .*"):
        things.register("pixel")(lambda: "another")


KNOWN = "known: level, needs, source, family, made_against, defeated_by"
FIELDS = [
    ({"levle": 1}, f"attack 'x': unknown field 'levle' (did you mean level?); {KNOWN}"),
    ({"level": "1", "needs": "data"}, "attack 'x': level: expected int, got str"),
    ({"level": 1.5, "needs": "data"}, "attack 'x': level: expected int, got float"),
    (
        {"level": 1, "needs": "money"},
        "attack 'x': needs: invalid enum value 'money'; one of '', 'data', 'training', 'model'",
    ),
    ({"level": 1}, "attack 'x': the field 'needs' is missing"),
    ({"level": 1, "needs": "data", "source": 7}, "attack 'x': source: expected str, got int"),
    (
        {"level": 1, "needs": "data", "made_against": "strip"},
        "attack 'x': made_against: expected array, got str",
    ),
    (
        {"level": 1, "needs": ""},
        "attack 'x': needs is data, training or model, and empty for level 0 (the clean model) "
        "alone; got '' with level 1",
    ),
    ({"level": -1, "needs": "data"}, "attack 'x': level is 0 or more, got -1"),
]


@pytest.mark.parametrize(("fields", "message"), FIELDS, ids=lambda value: str(value))
def test_a_wrong_field_is_one_line_that_names_the_plugin_and_the_field(fields, message):
    with pytest.raises(PluginError) as error:
        attack("x", **fields)
    assert str(error.value) == message
    assert "x" not in ATTACKS


def test_data_sets_and_models_have_fields_of_their_own():
    with pytest.raises(PluginError, match=r"^data set 'x': unknown field 'level'; known: source, "):
        dataset("x", level=1)
    with pytest.raises(PluginError, match=r"^data set 'x': defaults: expected object, got str$"):
        dataset("x", defaults="")
    with pytest.raises(PluginError, match=r"^model 'x': source: expected str, got int$"):
        model("x", source=1)


def test_what_an_author_says_is_typed():
    info = ATTACKS["pixel"].info
    assert (info.level, info.needs, info.made_against) == (1, "data", ())
    assert info.source.startswith("Gu et al.")


@pytest.mark.parametrize("name", ["My_Attack", "x-y", "a b", "x+y", "", "timm:resnet18", "ö"])
def test_a_name_that_would_make_an_id_ambiguous_is_refused(name):
    with pytest.raises(PluginError) as error:
        attack(name, level=1, needs="data")
    assert str(error.value) == (
        f"attack {name!r}: a name is lower-case letters, digits and underscores"
    )


def test_a_model_may_be_named_after_the_library_that_it_is_from():
    with MODELS.temporary():
        model("timm:vit_base_patch16_224.augreg")(lambda: None)
        assert "timm:vit_base_patch16_224.augreg" in MODELS
    with pytest.raises(PluginError, match=r"^model 'timm:a-b': "):
        model("timm:a-b")


def test_parameters_reach_the_plugin():
    assert ATTACKS.create("blended", alpha=0.5).alpha == 0.5


def test_a_broken_entry_point_is_one_warning_that_names_it(monkeypatch, things):
    broken = EntryPoint("sunglasses", "no_such_module:Sunglasses", "triggerbench.things")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    with pytest.warns(UserWarning, match="thing plugin 'sunglasses' .*no_such_module") as caught:
        assert things.names("p*") == ["patch", "patchwork", "pixel"]
    assert len(caught) == 1


def test_an_entry_point_may_name_a_plain_class(monkeypatch, tmp_path, things):
    (tmp_path / "stranger.py").write_text("class Plugin:\n    '''From elsewhere.'''\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("elsewhere", "stranger:Plugin", "triggerbench.things")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert type(things.create("elsewhere")).__name__ == "Plugin"
    assert things["elsewhere"].summary == "From elsewhere."
    sys.modules.pop("stranger")


def test_a_family_is_found_behind_its_prefix_and_is_gone_after_a_temporary_registration(things):
    family = registry.Family(lambda glob: ["one"] if glob in ("*", "one") else [], lambda name: str)
    with things.temporary():
        things.family("theirs", family)
        assert things.names("theirs:*") == ["theirs:one"]
        assert things["theirs:one"].name == "theirs:one"
        with pytest.raises(DuplicateName, match="thing family 'theirs' is registered twice"):
            things.family("theirs", family)
    assert "theirs:one" not in things
    assert things.names("theirs:*") == []
