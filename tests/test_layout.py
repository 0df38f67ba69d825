"""The house rules: who may import whom, and that the benchmark names no plugin."""

from __future__ import annotations

import ast
from importlib.util import resolve_name
from pathlib import Path

import pytest

from attacks import ATTACKS
from defenses import DEFENSES

CHECKOUT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "fixtures": {"fixtures"},
    "attacks": {"attacks", "fixtures"},
    "defenses": {"defenses", "fixtures"},
    "bench": {"attacks", "bench", "defenses", "fixtures"},
}
FILES = [path for folder in MAY_IMPORT for path in sorted((CHECKOUT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(resolve_name("." * node.level + (node.module or ""), path.parent.name))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_imports_go_one_way(path):
    ours = {name for name in imported(path) if name.partition(".")[0] in MAY_IMPORT}
    allowed = MAY_IMPORT[path.relative_to(CHECKOUT).parts[0]]
    assert {name.partition(".")[0] for name in ours} <= allowed
    if path.parent.name in ("attacks", "defenses") and path.stem != "__init__":
        assert {n for n in ours if n.startswith(path.parent.name)} <= {f"{path.parent.name}.base"}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_every_folder_says_what_lives_there(folder):
    text = ast.get_docstring(ast.parse((CHECKOUT / folder / "__init__.py").read_text()))
    assert text
    assert "import" in text.lower()


BENCH = [p for p in sorted((CHECKOUT / "bench").rglob("*.py")) if p.parent.name != "speed"]


@pytest.mark.parametrize("path", BENCH, ids=lambda p: p.stem)
def test_the_benchmark_names_no_plugin(path):
    """But `bench.speed`, which times fixed cells."""
    tree = ast.parse(path.read_text())
    code = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    plugins = {*ATTACKS.names(), *DEFENSES.names()} - {"none"}
    assert not code & plugins
    assert not {f"attacks.{name}" for name in plugins} & imported(path)
    assert not {f"defenses.{name}" for name in plugins} & imported(path)


TESTS = sorted((CHECKOUT / "tests").rglob("*.py"))
NOT_OURS = {"_exit", "_fields", "_replace", "_forward_pre_hooks", "_local_scalar_dense"}
"""Python's own, and PyTorch's."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in {"_", *NOT_OURS}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_tests_reach_into_nothing_private(path):
    """What they need is public; what is private may change without them."""
    reached = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            reached.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MAY_IMPORT:
            reached |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            reached |= {text.rpartition(".")[2] for text in texts if isinstance(text, str)}
    assert not {name for name in reached if private(name)}


def test_no_test_of_the_benchmark_carries_a_components_name():
    plugins = {*ATTACKS.names(), *DEFENSES.names(), "mnist", "digits", "simplecnn"} - {"none"}
    for path in (CHECKOUT / "bench").glob("test_*.py"):
        names = [n.name for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "name")]
        for text in (path.stem, *map(str, names)):
            assert not [plugin for plugin in plugins if plugin in text]
