"""Names with parameters, as they stand on the command line, in suites and in ids."""

from __future__ import annotations

import pytest

from bench.spec.cell import Cell
from bench.spec.data import told_apart
from bench.spec.parameters import with_parameters
from fixtures.errors import BenchError


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("pixel", "pixel", {}),
        ("pixel+size=0.2+mapping=all2all", "pixel", {"size": 0.2, "mapping": "all2all"}),
        ("noise+amplitude=1e+1", "noise", {"amplitude": 10.0}),
        ("folder+path=/a+b/c=d/e+f+size=64", "folder", {"path": "/a+b/c=d/e+f", "size": 64}),
        ("folder+path=2024", "folder", {"path": "2024"}),
        ("folder+name=a=b", "folder", {"name": "a=b"}),
        ("timm:resnet18.a1_in1k+drop=true", "timm:resnet18.a1_in1k", {"drop": True}),
    ],
)
def test_a_plus_sign_parts_only_before_a_name_with_an_equals_sign(text, name, params):
    assert with_parameters(text) == (name, params)


@pytest.mark.parametrize(
    ("text", "part"), [("pixel+size", "size"), ("pixel+=3", "=3"), ("pixel+a=1+size=", "size=")]
)
def test_what_is_not_name_and_value_is_told(text, part):
    with pytest.raises(ValueError, match=f"^'{part}' is not name=value$"):
        with_parameters(text)


def test_two_places_under_one_name_are_one_line_that_asks_for_names():
    here, there = (Cell("folder", dataset_params={"path": path}) for path in ("/a", "/b"))
    told_apart([here, here, Cell("digits")])
    told_apart([here, Cell("folder", dataset_params={"path": "/b", "name": "b"})])
    with pytest.raises(BenchError) as caught:
        told_apart([here, there])
    assert str(caught.value) == (
        "--dataset: /a and /b are both called 'folder': tell them apart with "
        "folder+name=...+path=..."
    )


def test_parameters_of_no_recipe_are_refused():
    with pytest.raises(BenchError, match="parameters of no recipe"):
        Cell("digits", recipe_params={"epochs": 3})


def test_a_path_stays_with_the_cell_when_it_loses_its_defense():
    cell = Cell("folder", defense="anp", dataset_params={"path": "/a", "size": 64})
    assert cell.undefended.dataset_path == "/a"
    assert dict(cell.undefended.dataset_params) == {"size": 64}
