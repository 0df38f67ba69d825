"""The words of pytest's ``-k`` that select."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable


def words_of(expression: str) -> list[str]:
    """The words of a ``-k`` expression that select: those under an even number of ``not``.

    Lower case, as ``-k`` does not tell cases apart. Empty for what pytest will refuse.
    """
    quoted = re.sub(
        r"[^\s()]+", lambda m: m[0] if m[0] in ("and", "or", "not") else repr(m[0]), expression
    )
    try:
        tree = ast.parse(quoted.strip() or "''", mode="eval").body
    except SyntaxError:
        return []
    return list(dict.fromkeys(word for word in _positive(tree, True) if word))


def _positive(node: ast.expr, wanted: bool) -> Iterable[str]:
    if isinstance(node, ast.UnaryOp):
        yield from _positive(node.operand, not wanted)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _positive(value, wanted)
    elif isinstance(node, ast.Constant) and wanted:
        yield str(node.value).lower()
