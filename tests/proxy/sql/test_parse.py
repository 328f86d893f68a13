"""Two readings, and texts made to hurt the reader."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sql import libpg, second
from proxy.sql.parse import base_tables, parse


@pytest.mark.parametrize(
    "text",
    [
        "select 1" + "+a" * 400_000,
        "select 1" + "::int" * 100_000,
        "select 1" + " union all select 1" * 40_000,
        "select * from a" + " cross join a" * 40_000,
        "select " + "(" * 100_000 + "1" + ")" * 100_000,
        "select " + "- " * 9_000 + "1",
        "select " + "not " * 2_000 + "true",
        "select " + "array[" * 40 + "1" + "]" * 40,
        "select " + "date(" * 60 + "x" + ")" * 60,
        "select " + "(select " * 900 + "1" + ")" * 900,
        "select " + "case when true then " * 400 + "1" + " end" * 400,
        "select * from " + "(" * 2_000 + "a" + " cross join b)" * 2_000,
        "select a" + " is null" * 50_000,
        "select '" + "a" * 900_000,
        "select 1 in (" + "1," * 100_000 + "1)",
    ],
    ids=lambda text: text[:24],
)
def test_a_text_made_to_exhaust_the_reader_is_answered_soon_and_the_process_lives(text: str) -> None:
    started = time.process_time()
    parse(text)
    assert time.process_time() - started < 5


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "select",
                "(",
                ")",
                "[",
                "]",
                ",",
                "from",
                "a",
                "as",
                "'x'",
                "1",
                "with",
                "union",
                "$$",
                '"',
                ";",
                "*",
                ".",
                "case",
                "end",
                "é",
            ]
        )
    )
)
def test_no_text_makes_the_reader_raise(words: list[str]) -> None:
    parse(" ".join(words))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", []),
        (";;", []),
        ("select 1; ; select 2", ["select_stmt", "select_stmt"]),
        ("DISCARD ALL", ["discard_stmt"]),
        ("LISTEN x; SAVEPOINT a", ["listen_stmt", "transaction_stmt"]),
        ("EXPLAIN ANALYZE DELETE FROM a", ["explain_stmt"]),
        ("select 'a;b', $$;$$", ["select_stmt"]),
    ],
)
def test_statements_are_counted_and_named_as_postgresql_does(text: str, kinds: list[str]) -> None:
    assert [s.kind for s in parse(text).statements] == kinds


@pytest.mark.parametrize(
    "text", ["selec 1", "select 1;;delete", "select (", "select 'a", "\\d", "select /* 1"]
)
def test_what_does_not_parse_is_unread(text: str) -> None:
    reading = parse(text)
    assert reading.unread
    assert reading.sqlstate == "42601"
    assert not reading.statements


def test_only_parameters_become_names_for_the_second_parser() -> None:
    text = "select $1,$2, '$3', \"$4\", $q$ $5 $q$, e'\\'$6', $7::int[] /* $8 */ -- $9"
    said = "select p1,p2, '$3', \"$4\", $q$ $5 $q$, e'\\'$6', p7::int[] /* $8 */ -- $9"
    assert libpg.with_names_for_parameters(text) == said


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("insert into a values ($1),($2)", {"a"}),
        ("insert into a select ($1),($2) from b where x in (select $3 from c)", {"a", "b", "c"}),
        ("insert into a overriding system value select * from b", {"a", "b"}),
        ("insert into a (x, y) overriding user value values (1, 2), ($1,$2)", {"a"}),
        ("select overriding.system as value from b overriding", {"b"}),
    ],
)
def test_both_parsers_see_the_same_tables_round_parameters_and_overriding(
    text: str, tables: set[str]
) -> None:
    (statement,) = parse(text).statements
    assert base_tables(statement.tree) == tables
    (glance,) = second.glance(text)
    assert glance.tables == tables


def test_a_long_honest_text_is_read() -> None:
    rows = ",".join(f"({n}, 'name {n}', -{n}.5)" for n in range(5_000))
    assert not parse(f"INSERT INTO t (a, b, c) VALUES {rows}").unread
    conditions = " OR ".join(f"(a = {n} AND b = 'x')" for n in range(2_000))
    assert not parse(f"SELECT * FROM t WHERE {conditions}").unread


def test_an_argument_more_than_the_second_parser_knows_of_is_read_and_hides_no_table() -> None:
    assert parse("select upper($1, $2)").unread == ""  # pgJDBC's {? = call upper(?)}
    hidden = parse("select upper('a', (select email from users limit 1))")
    assert hidden.unread == "two parsers find different tables in it"
    assert parse("select upper('a', 'b') from").unread != ""
