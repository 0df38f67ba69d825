"""What anybody's error says, in one line."""

from __future__ import annotations

LONGEST = 200


def one_line(error: BaseException) -> str:
    """The first line of its message, else its type's name; at most `LONGEST` characters.

    What a terminal or XML would take for more than text is a question mark.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:LONGEST]
    return "".join(one if one.isprintable() else "?" for one in line)
