"""The lexical gate and the soundness of blanked keys."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pg_query import PgQueryError

from proxy.sql import libpg
from proxy.sql.lexer import scan
from proxy.sql.tree import named

PIECES = [
    *[
        "SELECT",
        "FROM",
        "WHERE",
        "AND",
        "OR",
        "a",
        "b",
        "a1",
        "1a",
        "a$1",
        "$1",
        "$2",
        "$$",
        "$a$",
        "1",
        "22",
    ],
    *["3.5", ".5", "5.", "1e3", "1.5e-3", "0x1f", "1_000", "1..2", ",", "(", ")", "[", "]", "::", ";", "="],
    *[
        "<>",
        "-",
        "+",
        "--",
        "/*",
        "*/",
        "*",
        ".",
        "E",
        "e'x'",
        "U&",
        "N",
        "B'1'",
        "''",
        "'it''s'",
        "'a'",
        "'",
    ],
    *[
        "x",
        "😀",
        "é",
        "😀1",
        "'1'",
        "date",
        "int",
        "interval",
        "_1",
        "é2",
        "\\",
        '"',
        '"q"',
        "?",
        " ",
        "\n",
        "  ",
    ],
]


def shape(text: str) -> list[tuple[str, ...]] | None:
    """The parse tree without the values of constants and the places in the text; None for a syntax error."""
    try:
        tree = libpg.parse(text)
    except (PgQueryError, libpg.TooDeep):
        return None
    found: list[tuple[str, ...]] = []
    stack = [tree]
    while stack:
        message = stack.pop()
        scalars = [
            f"{field.name}={value}"
            for field, value in message.ListFields()
            if field.type != field.TYPE_MESSAGE and field.name not in PLACES
        ]
        found.append((named(message), *(() if named(message) == "A_Const" else scalars)))
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE and named(message) != "A_Const":
                stack.extend(value if field.is_repeated else [value])
    return found


PLACES = {"location", "stmt_location", "stmt_len", "name_location", "version"}
texts = st.lists(st.sampled_from(PIECES), max_size=14).map(lambda parts: "SELECT " + "".join(parts))


@settings(max_examples=400, deadline=None)
@example("SELECT a1 FROM 😀1")
@example("SELECT '1' FROM b WHERE a = 'it''s'")
@given(texts)
def test_texts_that_share_a_blanked_key_have_one_parse_tree_but_for_constants(text: str) -> None:
    lexed = scan(text.encode())
    if lexed.exact:
        assert lexed.key == text.encode()
        return
    blanked = lexed.key.decode()
    assert scan(lexed.key).key == lexed.key
    assert shape(text) == shape(blanked)


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'a\'",
        "SELECT 'a' -- it's",
        'SELECT "a"',
        "SELECT 1 -- x",
        "SELECT /* x */ 1",
        "SELECT $$x$$",
        "SELECT $a$x$a$",
        "SELECT E'a'",
        "SELECT U&'a'",
        "SELECT B'1'",
        "SELECT x'1f'",
        "SELECT N'a'",
        "SELECT date'2020-01-01'",
        "SELECT 'a",
    ],
)
def test_a_text_that_needs_a_real_lexer_is_its_own_key(text: str) -> None:
    assert scan(text.encode()).exact


def test_literals_and_numbers_are_blanked_and_names_and_parameters_stay() -> None:
    lexed = scan(b"SELECT a1, $2 FROM t9 WHERE x = 'it''s' AND y IN (1, 2.5, 30)")
    assert lexed.key == b"SELECT a1, $2 FROM t9 WHERE x = '' AND y IN (0, 0, 0)"
    assert not lexed.exact


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (b"SELECT 1\x00", {}),
        (b"SELECT '\x1b[2J'", {}),
        (b"SELECT '\xff'", {}),
        (b"SELECT '\xc3\xa9'", {"encoding": "SJIS"}),
        (b"SELECT '\\'", {"standard_conforming_strings": False}),
        ("SELECT '\u202edrop'".encode(), {}),
        (b"SELECT " + b"1" * 100, {"max_text": 50}),
    ],
)
def test_bytes_that_readers_would_read_differently_are_a_problem(
    text: bytes, arguments: dict[str, object]
) -> None:
    assert scan(text, **arguments).problems  # type: ignore[arg-type]


def test_letters_of_the_world_pass_in_utf8() -> None:
    assert not scan("SELECT 'Grüße, мир, 世界 🎉'".encode()).problems
