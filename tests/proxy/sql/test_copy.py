"""COPY ... TO STDOUT of tables with masked columns: its rows are rewritten, or it is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.copy import KEEP, CopyPlan, plan_copy, rewrite_copy
from proxy.sql.guard import Settings, read
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.rows import BrokenRow
from tests.proxy.sql.door import KEY, leaks

COPIES = Settings(masks_copies=True)
SEARCHES = Settings(masks_copies=True, searches=True)


def sent(conninfo: str, text: str) -> list[bytes]:
    """The CopyData messages of a COPY, as the server sends them."""
    with (
        psycopg.connect(conninfo, autocommit=True) as connection,
        connection.cursor() as cursor,
        cursor.copy(text.encode()) as copy,
    ):
        return [bytes(data) for data in copy]


def shown(conninfo: str, masks: MaskSet, text: str, detect: tuple[str, ...] = ()) -> list[bytes]:
    """What the client gets of a COPY."""
    verdict = read(text, masks, SEARCHES if detect else COPIES)
    assert verdict.allowed, verdict.reason
    rows = sent(conninfo, text)
    if verdict.statements[0].copies is None:
        return rows
    plan = plan_copy(verdict.statements[0], masks, KEY, detect)
    skip = 1 if plan.header else 0
    return rows[:skip] + [rewrite_copy(row, plan) for row in rows[skip:]]


@pytest.mark.parametrize(
    "text",
    [
        "COPY users TO STDOUT", "COPY users TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY users TO STDOUT CSV HEADER", "COPY (SELECT initials FROM users) TO STDOUT",
        "COPY users (email, id, phone, ssn) TO STDOUT",
        "COPY users (ssn, profile) TO STDOUT (FORMAT csv)",
        "COPY (SELECT * FROM users) TO STDOUT",
        "COPY (SELECT upper(email), salary, u FROM users u) TO STDOUT",
        "COPY (SELECT id, email || phone FROM users) TO STDOUT (FORMAT text)",
        "COPY (TABLE contacts) TO STDOUT",
        "COPY (TABLE contacts_again) TO STDOUT CSV", "COPY (SELECT json_agg(u) FROM users u) TO STDOUT CSV",
        "COPY (UPDATE users SET name = name WHERE id = 1 RETURNING *) TO STDOUT", "COPY events_a TO STDOUT",
    ],
)  # fmt: skip
def test_a_copy_shows_no_piece_of_a_masked_value(text: str, sample: str, masks: MaskSet) -> None:
    assert leaks(sent(sample, text))
    rows = shown(sample, masks, text)
    assert rows
    assert leaks(rows) == set()


def test_what_no_mask_covers_stays_as_the_server_sent_it(sample: str, masks: MaskSet) -> None:
    assert sorted(shown(sample, masks, "COPY users (id, name) TO STDOUT")) == [b"1\tAda\n", b"2\tGrace\n"]
    assert sorted(shown(sample, masks, "COPY users (id, phone, email) TO STDOUT CSV")) == [
        b"1,***4825,***\n",
        b"2,***4637,***\n",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "COPY users TO STDOUT (FORMAT binary)", "COPY users TO STDOUT (DELIMITER ',')",
        "COPY users TO STDOUT (NULL 'x')", "COPY users TO STDOUT (FORMAT csv, QUOTE '|')",
        "COPY users TO STDOUT (FORMAT csv, FORCE_QUOTE *)", "COPY users TO STDOUT (ENCODING 'UTF16')",
        "COPY users (nobody) TO STDOUT", "COPY users TO PROGRAM 'cat'", "COPY users TO '/tmp/x'",
    ],
)  # fmt: skip
def test_a_copy_that_cannot_be_rewritten_is_refused(text: str, masks: MaskSet) -> None:
    assert not read(text, masks, COPIES).allowed


def test_without_the_gates_help_a_masked_copy_is_refused(masks: MaskSet) -> None:
    assert not read("COPY users TO STDOUT", masks).allowed
    assert not read("COPY notes TO STDOUT", masks, Settings(searches=True)).allowed


def test_detectors_search_what_a_copy_sends(sample: str, masks: MaskSet) -> None:
    text = "COPY (SELECT 5, 4111111111111111, 'to ada@example.com', NULL, '') TO STDOUT"
    plain = resolve(masks.catalog, ())
    assert shown(sample, plain, text, ("email", "card")) == [b"5\t\\N\tto ***\t\\N\t\n"]
    assert shown(sample, plain, text + " CSV", ("email", "card")) == [b'5,,to ***,,""\n']
    assert not read(text + " (FORMAT binary)", plain, SEARCHES).allowed


values = st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12))


@pytest.fixture(scope="module")
def connection(sql_server: str) -> Iterator[psycopg.Connection[tuple[str]]]:
    with psycopg.connect(sql_server, autocommit=True) as connection:
        yield connection


@given(st.lists(values, min_size=1, max_size=4), st.booleans())
def test_a_rewritten_row_reads_back_as_the_same_values(
    connection: psycopg.Connection[tuple[str]], row: list[str | None], as_csv: bool
) -> None:
    """The server's own COPY writes the row; rewriting without changes must give those bytes."""
    columns = ", ".join("%s::text" for _ in row)
    form = "csv" if as_csv else "text"
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY (SELECT {columns}) TO STDOUT (FORMAT {form})".encode(), row) as copy,
    ):
        (sent_row,) = [bytes(data) for data in copy]
    again = rewrite_copy(sent_row, CopyPlan(as_csv, False, (KEEP,) * len(row)))
    assert again == sent_row
    masked = rewrite_copy(sent_row, CopyPlan(as_csv, False, (b"***",) * len(row)))
    if as_csv:
        (read_back,) = csv.reader(io.StringIO(masked.decode()))
        assert read_back == (["" if v is None else "***" for v in row] if row != [None] else [])
    else:
        assert masked == b"\t".join(b"\\N" if v is None else b"***" for v in row) + b"\n"


@pytest.mark.parametrize("row", [[" a "], ["\\."], ["\\.", "x"], ["a\rb"], ["\\N"], [""], ["\t"], ['"']])
@pytest.mark.parametrize("as_csv", [False, True])
def test_texts_that_csv_and_escapes_make_special_stay_the_servers_bytes(
    sql_server: str, row: list[str], as_csv: bool
) -> None:
    text = ", ".join("'" + value.replace("'", "''") + "'" for value in row)
    (sent_row,) = sent(sql_server, f"COPY (SELECT {text}) TO STDOUT (FORMAT {'csv' if as_csv else 'text'})")
    assert rewrite_copy(sent_row, CopyPlan(as_csv, False, (KEEP,) * len(row))) == sent_row


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_rewritten_whole_or_refused(row: bytes, as_csv: bool) -> None:
    try:
        masked = rewrite_copy(row, CopyPlan(as_csv, False, (b"***", None)))
    except BrokenRow:
        return
    assert masked.rstrip(b"\n") in (b"***,", b"***\t\\N", b",", b"\\N\t\\N")
