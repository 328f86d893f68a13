"""Patterns that leave no text out: `LIKE '%'`, `~ 'x*'`, `SIMILAR TO '(a|)%'`.

A regular expression is tried on texts that have nothing in common. One that Python reads otherwise than
PostgreSQL, or that could take long, counts as one that leaves nothing out.
"""

from __future__ import annotations

import re

_UNLIKE = ("q", "7")
"""A pattern that matches each of these matches nearly everything."""
_LONGEST = 200
_REPEATS = 8
"""Quantifiers at most: trying a pattern takes time that grows with a power of them."""
_CLASSES = {
    "alnum": "A-Za-z0-9", "alpha": "A-Za-z", "blank": " \\t", "cntrl": "\\x00-\\x1f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@", "space": "\\s", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f", "word": "\\w",
}  # fmt: skip


def like_shows_all(pattern: str) -> bool:
    """LIKE and ILIKE: nothing but wildcards, one that takes any number of letters among them."""
    return "%" in pattern and set(pattern) <= {"%", "_"}


def regex_shows_all(pattern: str, *, folded: bool = False) -> bool:
    """`~`, or with `folded` `~*` (PostgreSQL documentation, "POSIX Regular Expressions")."""
    if pattern.startswith("***"):
        return True
    return _matches(_with_classes(pattern), _UNLIKE, re.IGNORECASE if folded else 0)


def similar_shows_all(pattern: str) -> bool:
    """SIMILAR TO: `%` and `_` inside a regular expression that has to fit the whole text."""
    return _matches(f"^(?:{_with_classes(pattern).replace('%', '.*').replace('_', '.')})$", ("item", "70"), 0)


def _with_classes(pattern: str) -> str:
    return re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], "[:"), pattern)


def _matches(pattern: str, texts: tuple[str, ...], flags: int) -> bool:
    if len(pattern) > _LONGEST or len(re.findall(r"[*+?{]", pattern)) > _REPEATS:
        return True
    try:
        tried = re.compile(pattern, flags | re.DOTALL)
    except (re.error, RecursionError, OverflowError):
        return True
    return bool(tried.search("")) or all(tried.search(text) for text in texts)
