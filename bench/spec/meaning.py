"""What code means, as a text that comments, docstrings, annotations and layout do not change.

Identities are made of it: code may be cleaned without measuring anything again, and a changed
constant, operator or call is another identity. Every Python version that can read the source gives
the same text, since fields that a version adds are left out where they are empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeGuard

IGNORED = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind"})
"""Fields that say nothing of what is computed."""


@lru_cache(maxsize=256)
def meaning(source: str) -> str:
    """The syntax tree in one line. Raises SyntaxError for what is no Python.

    Left out: comments, docstrings and other strings that stand alone, annotations, positions,
    imports for annotations alone (``if TYPE_CHECKING:``), and what an error says: the texts among
    the arguments of ``raise X(...)``, and the third of ``need(condition, plugin, reason)``.
    """
    return "".join(_told(ast.parse(source)))


def _told(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        yield "["
        for item in _spoken(node):
            yield from _told(item)
            yield ","
        yield "]"
    elif isinstance(node, ast.AST):
        yield f"{_name(node)}("
        for field, value in sorted(_fields(node)):
            yield f"{field}="
            if isinstance(node, ast.ClassDef) and field == "body":
                # In a class x: int = 1 may be a field, which x = 1 is not.
                yield f"fields={[at for at, item in enumerate(_spoken(value)) if _is_field(item)]};"
            yield from _told(value)
            yield ";"
        yield ")"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _name(node: ast.AST) -> str:
    # x: int = 1 means what x = 1 means.
    return "Assign" if isinstance(node, ast.AnnAssign) and node.value else type(node).__name__


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield "exc", node.exc.func
        yield "args", [arg for arg in node.exc.args if not _is_text(arg)]
        yield "cause", node.cause
        return
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield "targets", [node.target]
        yield "value", node.value
        return
    if _is_check(node):
        yield "func", node.func
        yield "args", node.args[:2]
        return
    if isinstance(node, ast.JoinedStr):  # some versions end a nested format with an empty string
        yield (
            "values",
            [v for v in node.values if not (isinstance(v, ast.Constant) and not v.value)],
        )
        return
    for field, value in ast.iter_fields(node):
        if field not in IGNORED and value is not None and value != []:
            yield field, value


def _spoken(nodes: list[Any]) -> list[Any]:
    return [node for node in nodes if not _is_silent(node)]


def _is_field(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and node.value is not None


def _is_check(node: ast.AST) -> TypeGuard[ast.Call]:
    """``need(condition, plugin, reason)`` with a text for a reason."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "need"
        and len(node.args) == 3
        and _is_text(node.args[2])
    )


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_silent(node: Any) -> bool:
    """A statement that computes nothing: a docstring, ``pass``, an import for annotations alone."""
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING" and not node.orelse
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
