"""The house rules: who may import whom, and that the benchmark names no plugin."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import bench
from attacks import ATTACKS
from defenses import DEFENSES

CHECKOUT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "fixtures": {"fixtures"},
    "attacks": {"attacks", "fixtures"},
    "defenses": {"defenses", "fixtures"},
    "bench": {"attacks", "bench", "defenses", "fixtures"},
}
PUBLIC = {f"bench.{name}" for name in bench.__all__}
FILES = [path for folder in MAY_IMPORT for path in sorted((CHECKOUT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), path.parent.name)
            # `from bench import figures` names a module, `from bench import Cell` does not.
            inner = {f"{base}.{alias.name}" for alias in node.names} if base == "bench" else {base}
            names |= {name for name in inner if name not in PUBLIC}
    return names


def test_the_layers_hold():
    """What pyproject.toml says of who may import whom, checked by import-linter."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run([*command, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


PACKAGES = [*MAY_IMPORT, *(f"bench/{p.parent.name}" for p in CHECKOUT.glob("bench/*/__init__.py"))]


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_folder_says_what_lives_there_and_what_it_may_import(folder):
    text = ast.get_docstring(ast.parse((CHECKOUT / folder / "__init__.py").read_text()))
    assert text
    assert "import" in text.lower()


def test_the_picture_of_the_house_is_drawn_from_its_imports():
    """An arrow for each import between parts, but those that longer ways stand for already."""
    page = (CHECKOUT / "docs" / "architecture.md").read_text()
    drawn = {tuple(arrow) for arrow in re.findall(r"^ *(\w+) --> (\w+)$", page, re.MULTILINE)}
    assert drawn == without_shortcuts(imports_between_parts())


def imports_between_parts():
    found = set()
    for path in FILES:
        begin = part_of(path.relative_to(CHECKOUT).with_suffix("").parts)
        ends = {part_of(tuple(name.split("."))) for name in imported(path)}
        found |= {(begin, end) for end in ends if begin and end and begin != end}
    return found


def part_of(module):
    """A folder, or a file that stands alone in `bench`; what pytest collects there is no part."""
    if module[0] not in MAY_IMPORT or module == ("bench",):
        return None
    part = module[1] if module[0] == "bench" else module[0]
    return None if part.startswith(("test_", "__init__")) else part


def without_shortcuts(arrows):
    ends = {}
    for begin, end in arrows:
        ends.setdefault(begin, set()).add(end)

    def reached(begin):
        return {end for step in ends.get(begin, ()) for end in {step, *reached(step)}}

    return {
        (begin, end)
        for begin, end in arrows
        if not any(end in reached(other) for other in ends[begin] - {end})
    }


WRITTEN = [
    path
    for path in sorted((CHECKOUT / "bench").rglob("*"))
    if path.suffix in (".py", ".toml", ".jinja")
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.stem)
def test_no_file_of_the_benchmark_is_longer_than_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


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
            assert not [name for name in plugins if f"_{name}_" in f"_{text}_"]
