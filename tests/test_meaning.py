"""What changes an identity, and what does not."""

from __future__ import annotations

import ast
import hashlib

import pytest

from bench.spec.meaning import meaning

CODE = '''
"""A module."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 3
"""How many."""


def clip(values: "list[int]", most: int = LIMIT) -> "list[int]":
    """Cut them off."""
    # from above
    if most < 0:
        raise ValueError(f"most is {most}, below zero")
    need(most > 0, "clip", "most is zero")
    return [min(value, most) for value in values]
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    # from above\n", ""),
        ('    """Cut them off."""\n', '    """Cut off what is too large."""\n'),
        ('"""How many."""\n', ""),
        ("    from torch import Tensor", "    from numpy import ndarray"),
        ('values: "list[int]", most: int = LIMIT) -> "list[int]"', "values, most=LIMIT)"),
        ("LIMIT = 3", "LIMIT: int = 3"),
        ("min(value, most) for", "(min(\n        value,\n        most,\n    )) for"),
        ('f"most is {most}, below zero"', '"below zero"'),
        ('"most is zero"', 'f"most is {most}"'),
    ],
    ids=[
        *("a comment", "a docstring", "a constant's docstring", "an import for annotations"),
        *("annotations", "an annotated constant", "layout", "an error's text", "a check's text"),
    ],
)
def test_what_says_nothing_of_the_result_does_not_count(before, after):
    assert CODE.count(before) == 1
    assert meaning(CODE.replace(before, after)) == meaning(CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("most < 0", "most <= 0"),
        ("min(value", "max(value"),
        ("most > 0", "most > 1"),
        ("raise ValueError", "raise TypeError"),
        ("value in values", "value in values[1:]"),
        ("def clip(", "@cached\ndef clip("),
        ('f"most is {most}, below zero"', '"below zero", most'),
        ("import Tensor\n", "import Tensor\nelse:\n    Tensor = None\n"),
    ],
)
def test_what_may_change_a_result_counts(before, after):
    assert CODE.count(before) == 1
    assert meaning(CODE.replace(before, after)) != meaning(CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("need(images, 0.5)", "need(images, 0.9)"),
        ("need(a, b, 3)", "need(a, b, 4)"),
        ("raise StopIteration(3)", "raise StopIteration(4)"),
        ("class A:\n    x: int = 1", "class A:\n    x = 1"),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2", "if TYPE_CHECKING:\n    x = 1"),
    ],
)
def test_what_only_looks_like_a_text_counts(before, after):
    assert meaning(before) != meaning(after)


def test_a_field_that_a_later_python_adds_changes_nothing(monkeypatch):
    before = meaning(CODE)
    fields = (*ast.FunctionDef._fields, "novelty")
    monkeypatch.setattr(ast.FunctionDef, "_fields", fields)
    parse = ast.parse

    def newer(source):
        tree = parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.novelty = []
        return tree

    monkeypatch.setattr("bench.spec.meaning.ast.parse", newer)
    meaning.cache_clear()
    assert meaning(CODE) == before


RICH = """
@register("x", level=1)
class Thing(Base):
    size: int = 3

    def __init__(self, *args, scale=1.5, **common) -> None:
        super().__init__(*args, **common)
        self.scale, self.text = scale, f"{scale:.{self.size}f} of {args!r}, {scale:{level}}"

    async def run(self):
        async with self.lock as held:
            yield [x async for x in held if (y := x) is not None]


def choose(value, /, *, key=lambda v: -v):
    match value:
        case {"a": [1, *rest], **others} | (Thing(size=3) as rest):
            return rest
        case None | -1.5e-3 | b"x" | 2j:
            pass
    try:
        del value[1:2, ..., ::3]
    except (TypeError, KeyError) as error:
        raise ValueError("no") from error
    else:
        global COUNT
        COUNT += 1 if value and not key(value) < 3 <= 4 else 2 ** -1 @ value
    finally:
        with open("x") as one, open("y"):
            assert one, "gone"
    while True:
        break
    return {**value, "k": {1, 2}}, {k: v for k, v in value}, (*value,)
"""
"""Most of what the oldest Python supported can write."""


def test_every_python_reads_the_same():
    """Whichever runs this test: the digest was the same on 3.10, 3.11, 3.12 and 3.13."""
    assert hashlib.sha256(meaning(RICH).encode()).hexdigest()[:16] == "b3ac09e735d2cee3"
