"""A statement as approvers are shown it."""

from __future__ import annotations


def visible(text: str) -> str:
    """A statement with everything in it seen: what reorders or hides text, or only looks like a new line,
    as its code point. A lone carriage return is a new line to PostgreSQL, and so it is here.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\\r\n")
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in lines)
