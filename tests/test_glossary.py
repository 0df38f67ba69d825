"""The glossary names what is in the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

GLOSSARY = Path(__file__).resolve().parents[1] / "docs" / "glossary.md"
NAMES = re.findall(r"Code: `([\w.]+)`", GLOSSARY.read_text())


def found(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute or field of what a module holds."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if part in getattr(thing, "__dataclass_fields__", {}):
                return part == parts[-1]
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_code_name_of_the_glossary_exists(name):
    assert found(name)


def test_most_words_have_a_code_name_and_none_is_given_twice():
    words = re.findall(r"^### (.+)$", GLOSSARY.read_text(), re.MULTILINE)
    assert len(NAMES) > len(words) / 2
    assert len(NAMES) == len(set(NAMES))


def test_a_name_that_is_not_in_the_code_is_noticed():
    assert not found("attacks.Attack.no_such_hook")
    assert not found("no_such_module.Attack")
