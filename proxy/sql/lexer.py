"""The lexical gate: what a text may consist of at all, and the key under which its verdict may be kept.

A verdict is kept by a key in which literals are blanked, so that `... WHERE id = 1` and `... WHERE id = 2`
are read once. Blanking is sound only where finding the literals needs no real lexer: a text with a
backslash, a dollar quote, a comment, a quoted identifier or a prefixed string (E'', U&'', B'', X'', N'') is
its own key. Two texts with equal blanked keys have the same parse tree up to the values of constants (a
property test holds this against libpg_query).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Longer texts are refused: reading time grows with the text, and a gate serves others meanwhile.
MAX_TEXT = 1 << 20

# Control characters beyond whitespace mean nothing in SQL and lie to whoever reads a card or a recording.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
# Characters that reorder or hide text for a human reader (bidirectional overrides and isolates).
_DECEIVING = re.compile("[\u202a-\u202e\u2066-\u2069]")

# Anything that makes "a string is what stands between two quotes" untrue. A `$` is harmless before a digit
# only (a parameter); a quote right after a word character may be a prefixed string.
_NEEDS_LEXER = re.compile(rb"""["]|--|/\*|\$(?![0-9])|[0-9A-Za-z_$&\x80-\xff]'""")
_LITERAL = re.compile(
    rb"'(?:[^']|'')*'"
    # A plain number, and nothing that could be part of an identifier, a parameter or another kind of number.
    rb"|(?<![0-9A-Za-z_$.\x80-\xff])[0-9]+(?:\.[0-9]+)?(?![0-9A-Za-z_$.\x80-\xff])"
)

_UTF8_NAMES = frozenset({"utf8", "unicode"})


@dataclass(frozen=True, slots=True)
class Lexed:
    """What the lexical gate says about one text.

    `key` identifies the text for a verdict cache; `exact` says that the key is the text itself. `problems` is
    empty when the text may be read on; else each entry says, without quoting the text, what is wrong.
    """

    key: bytes
    exact: bool
    problems: tuple[str, ...] = ()


def _blank(match: re.Match[bytes]) -> bytes:
    return b"''" if match.group()[0] == 0x27 else b"0"


def scan(
    text: bytes,
    *,
    standard_conforming_strings: bool = True,
    encoding: str = "UTF8",
    max_text: int = MAX_TEXT,
) -> Lexed:
    """Check the bytes of one text (without the protocol's final NUL) and derive its cache key."""
    problems = _problems(text, standard_conforming_strings, encoding, max_text)
    if problems:
        return Lexed(text, True, problems)
    if b"\\" in text:
        return Lexed(text, True)
    key = _LITERAL.sub(_blank, text)
    # Looked for after blanking: up to the first thing that needs a lexer, strings were found right, so what
    # opens it still stands in the key. An odd quote is an unterminated string, which the server will refuse.
    if _NEEDS_LEXER.search(key) or key.count(b"'") % 2:
        return Lexed(text, True)
    return Lexed(key, False)


def _problems(text: bytes, conforming: bool, encoding: str, max_text: int) -> tuple[str, ...]:
    if len(text) > max_text:
        return (f"the statement is longer than the {max_text} bytes the gate reads",)
    found = []
    if _CONTROL.search(text):
        found.append("it holds a control character")
    if not text.isascii():
        if encoding.lower().replace("-", "").replace("_", "") not in _UTF8_NAMES:
            # In SJIS, BIG5 or GBK a byte that looks like a quote can be the second half of a letter.
            found.append(f"it holds letters beyond ASCII under client_encoding {encoding}, only UTF8 is read")
        else:
            try:
                if _DECEIVING.search(text.decode("utf-8")):
                    found.append("it holds characters that reorder what a reader sees")
            except UnicodeDecodeError:
                found.append("it is not valid UTF-8")
    if not conforming and b"\\" in text:
        # Both parsers read backslashes the standard way; with the setting off the server would not.
        found.append("it holds a backslash while standard_conforming_strings is off")
    return tuple(found)
