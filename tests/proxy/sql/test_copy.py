"""COPY ... TO STDOUT of tables with masked columns: its rows are rewritten, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from struct import pack, unpack_from

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from proxy.sql.copies import CopyFormat, copy_format
from proxy.sql.copy import CopyPlan, CopyStream, plan_copy
from proxy.sql.copy_rows import BinaryRows, TextRows
from proxy.sql.guard import Settings, VerdictCache, read
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.methods import Replacement, email, hasher, last4
from proxy.sql.parse import parse
from proxy.sql.rows import BrokenRow, MaskPlan
from proxy.sql.scope import Refused
from tests.proxy.sql.door import KEY, leaks

SEARCHES = Settings(searches=True)
Connection = psycopg.Connection[tuple[str]]


def sent(connection: Connection, text: str) -> list[bytes]:
    """The payloads of the CopyData messages of a COPY, as the server sends them."""
    with connection.cursor() as cursor, cursor.copy(text.encode()) as copy:
        return [bytes(data) for data in copy]


def messages(payloads: list[bytes]) -> bytes:
    return b"".join(b"d" + pack(">I", len(payload) + 4) + payload for payload in payloads)


def payloads_of(data: bytes) -> list[bytes]:
    found, place = [], 0
    while place < len(data):
        end = place + 1 + unpack_from(">I", data, place + 1)[0]
        found.append(data[place + 5 : end])
        place = end
    return found


def shown(connection: Connection, masks: MaskSet, text: str, detect: tuple[str, ...] = ()) -> list[bytes]:
    """What the client gets of a COPY."""
    verdict = read(text, masks, SEARCHES if detect else None)
    assert verdict.allowed, verdict.reason
    (statement,) = verdict.statements
    rows = sent(connection, text)
    width = len(statement.columns) if statement.columns else rows[0].count(b"\t") + rows[0].count(b",") + 1
    plan = plan_copy(statement, width, masks, KEY, detect)
    if plan is None:
        return rows
    stream = CopyStream(plan)
    return payloads_of(stream.rewrite(messages(rows)) + stream.finish())


@pytest.fixture(scope="module")
def connection(sample: str) -> Iterator[Connection]:
    with psycopg.connect(sample, autocommit=True) as connection:
        yield connection


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
        "COPY users TO STDOUT (DELIMITER ',')", "COPY users TO STDOUT (NULL 'x', DELIMITER '@')",
        "COPY users TO STDOUT (DELIMITER '@')", "COPY users TO STDOUT (FORMAT csv, QUOTE '@', DELIMITER '.')",
        "COPY users TO STDOUT (FORMAT csv, ESCAPE 'e')", "COPY users TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
        "COPY users TO STDOUT (FORMAT csv, FORCE_QUOTE (email), NULL 'nothing')",
        "COPY users (name, email) TO STDOUT (NULL 'zqxjkvwp@marker.test')",
        "COPY users TO STDOUT (ENCODING 'utf8')",
        "COPY users (email) TO STDOUT (FORMAT csv, NULL 'zqxjkvwp@marker.test')",
    ],
)  # fmt: skip
def test_a_copy_shows_no_piece_of_a_masked_value(text: str, connection: Connection, masks: MaskSet) -> None:
    assert leaks(sent(connection, text))
    rows = shown(connection, masks, text)
    assert rows
    assert leaks(rows) == set()


@pytest.mark.parametrize(
    "text",
    [
        "COPY users TO STDOUT (FORMAT binary)", "COPY users TO STDOUT BINARY",
        "COPY (SELECT u, email, salary, phone, upper(ssn) FROM users u) TO STDOUT (FORMAT binary)",
    ],
)  # fmt: skip
def test_a_binary_copy_shows_no_piece_either(text: str, connection: Connection, masks: MaskSet) -> None:
    salaries = {number.to_bytes(4) for number in (73194628, 91827364)}
    before, after = b"".join(sent(connection, text)), b"".join(shown(connection, masks, text))
    assert leaks([before])
    assert any(salary in before for salary in salaries)
    assert leaks([after]) == set()
    assert not any(salary in after for salary in salaries)
    assert after.endswith(b"\xff\xff")


def test_what_no_mask_covers_stays_as_the_server_sent_it(connection: Connection, masks: MaskSet) -> None:
    assert sorted(shown(connection, masks, "COPY users (id, name) TO STDOUT")) == [b"1\tAda\n", b"2\tGrace\n"]
    assert sorted(shown(connection, masks, "COPY users (id, phone, email) TO STDOUT CSV")) == [
        b"1,***4825,***\n",
        b"2,***4637,***\n",
    ]
    # A copy of clear columns only is not taken apart, so it may have any options.
    assert read("COPY users (id, name) TO STDOUT (ENCODING 'LATIN1')", masks).allowed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("COPY users TO STDOUT (ENCODING 'UTF16')", "ENCODING"),
        ("COPY users TO STDOUT (FORMAT json)", "FORMAT"),
        ("COPY users TO STDOUT (FORMAT parquet)", "FORMAT"),
        ("COPY users TO STDOUT (FORMAT csv, FORMAT text)", "FORMAT"),
        ("COPY users TO STDOUT (HEADER 3)", "HEADER"),
        ("COPY users TO STDOUT (SOMETHING new)", "SOMETHING"),
        (r"COPY users TO STDOUT (NULL '\', DELIMITER ',')", "apart"),
        ("COPY users TO STDOUT (DELIMITER 'n')", "apart"),
        (r"COPY users TO STDOUT (DELIMITER '\')", "apart"),
        ("COPY users TO STDOUT (DELIMITER '||')", "apart"),
        (r"COPY users TO STDOUT (FORMAT csv, QUOTE E'\n')", "apart"),
        ("COPY users TO STDOUT (FORMAT csv, QUOTE ',')", "apart"),
        ("COPY users TO STDOUT (FORMAT csv, NULL 'a,b')", "apart"),
        ("COPY users (nobody) TO STDOUT", '"nobody"'),
        ("COPY users TO PROGRAM 'cat'", "programs"),
        ("COPY users TO '/tmp/x'", "files"),
        ("COPY (SELECT id FROM users WHERE email LIKE 'z%') TO STDOUT", "masked column"),
        ("COPY (SELECT mail_of(id) FROM users) TO STDOUT", "mail_of"),
    ],
)
def test_a_copy_that_cannot_be_rewritten_is_refused_and_told_why(text: str, why: str, masks: MaskSet) -> None:
    verdict = read(text, masks)
    assert not verdict.allowed
    assert why in verdict.reason


def test_a_verdict_on_a_copy_is_not_kept_for_other_options(masks: MaskSet) -> None:
    """Options are constants, and the cache's key blanks constants."""
    cache = VerdictCache(masks)
    for delimiter in ",;|":
        verdict = cache.read(f"COPY users TO STDOUT (DELIMITER '{delimiter}')".encode())
        assert verdict.statements[0].copies == CopyFormat(delimiter=delimiter.encode())
    assert cache.read(b"COPY users TO STDOUT (FORMAT 'csv')").statements[0].copies == CopyFormat(
        "csv", delimiter=b",", null=b""
    )
    assert cache.read(b"COPY users TO STDOUT (FORMAT 'text')").statements[0].copies == CopyFormat()
    assert cache.read(b"COPY users TO STDOUT (HEADER 1)").statements[0].copies == CopyFormat(header=True)
    assert cache.read(b"COPY users TO STDOUT (HEADER 0)").statements[0].copies == CopyFormat()


def test_detectors_search_what_a_copy_sends(connection: Connection, masks: MaskSet) -> None:
    text = "COPY (SELECT 5, 4111111111111111, 'to ada@example.com', NULL, '') TO STDOUT"
    plain = resolve(masks.catalog, ())
    assert shown(connection, plain, text, ("email", "card")) == [b"5\t\\N\tto ***\t\\N\t\n"]
    assert shown(connection, plain, text + " CSV", ("email", "card")) == [b'5,,to ***,,""\n']
    refused = read(text + " (FORMAT binary)", plain, SEARCHES)
    assert not refused.allowed
    assert "searched" in refused.reason


def test_what_the_catalog_did_not_promise_is_no_plan(masks: MaskSet) -> None:
    (statement,) = read("COPY users (id, email) TO STDOUT", masks).statements
    with pytest.raises(ValueError, match="promised"):
        plan_copy(statement, 3, masks, KEY)


# ------------------------------------------------------- round trips through the server's own COPY FROM

letters = st.sampled_from([*"abN.,;|@'\" \t\n\r\b\f\v\\x\x01é𝄞", "\\.", "\\N", "***"])
values = st.one_of(st.none(), st.lists(letters, max_size=6).map("".join))
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(values, min_size=width, max_size=width), max_size=4)
)
nulls = st.sampled_from(["", "NULL", "a", "*", "***", " "])


@st.composite
def options(draw: st.DrawFn) -> dict[str, str]:
    chosen = {"format": draw(st.sampled_from(["text", "csv", "binary"]))}
    if chosen["format"] == "binary":
        return chosen
    if draw(st.booleans()):
        chosen["delimiter"] = draw(st.sampled_from([",", ";", "|", "@", "\t", "\x01", "*"]))
    if draw(st.booleans()):
        chosen["null"] = draw(nulls)
    if chosen["format"] == "csv":
        chosen["header"] = draw(st.sampled_from(["true", "false"]))
        if draw(st.booleans()):
            chosen["quote"] = draw(st.sampled_from(['"', "'", "x", "\\"]))
        if draw(st.booleans()):
            chosen["escape"] = draw(st.sampled_from(['"', "\\", "e", "a"]))
    return chosen


def written(chosen: dict[str, str]) -> str:
    return ", ".join(f"{name} {sql.quote(value)}" for name, value in chosen.items())


def read_back(
    connection: Connection, width: int, payload: bytes, chosen: dict[str, str]
) -> list[tuple[str, ...]]:
    """What the server reads from these rows."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE back")
        columns = ", ".join(f"c{n}" for n in range(width))
        with cursor.copy(f"COPY back ({columns}) FROM STDIN ({written(chosen)})".encode()) as copy:
            copy.write(payload)
        return cursor.execute(f"SELECT {columns} FROM back ORDER BY n".encode()).fetchall()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def tables_for_copy(connection: Connection) -> Connection:
    for name in ("forth", "back"):
        columns = ", ".join(f"c{n} text" for n in range(4))
        connection.execute(f"CREATE TEMP TABLE {name} (n serial, {columns})".encode())
    return connection


@given(tables, options(), st.data())
def test_the_server_reads_a_rewritten_copy_with_what_was_clear_unchanged(
    tables_for_copy: Connection, table: list[list[str | None]], chosen: dict[str, str], data: st.DataObject
) -> None:
    connection = tables_for_copy
    width = len(table[0]) if table else 1
    masked = data.draw(st.sets(st.integers(0, width - 1)))
    columns = ", ".join(f"c{n}" for n in range(width))
    connection.execute("TRUNCATE forth")
    for row in table:
        places = ", ".join("%s" for _ in row)
        connection.execute(f"INSERT INTO forth ({columns}) VALUES ({places})".encode(), row)
    text = f"COPY (SELECT {columns} FROM forth ORDER BY n) TO STDOUT ({written(chosen)})"
    try:
        rows = sent(connection, text)
    except psycopg.errors.InvalidParameterValue:
        return  # options that do not go together
    except psycopg.errors.FeatureNotSupported:
        return
    try:
        before = read_back(connection, width, b"".join(rows), chosen)
    except psycopg.Error:
        before = None  # the server does not read back what it wrote: an empty NULL and a delimiter like it

    try:
        form = copy_format(parse(text).statements[0].tree)
    except Refused:
        return
    plan = CopyPlan(form, MaskPlan(width, tuple((n, b"***") for n in sorted(masked))))
    stream = CopyStream(plan)
    pieces = cut(b"".join(rows), data)
    again = b"".join(payloads_of(stream.rewrite(messages(pieces)) + stream.finish()))
    if not masked:
        assert again == b"".join(rows)
    if before is None:
        return
    after = read_back(connection, width, again, chosen)
    own_null = chosen["format"] == "text" and chosen.get("null") is not None
    for old, new in zip(before, after, strict=True):
        for index in range(width):
            if index not in masked:
                assert new[index] == old[index]
            elif own_null or chosen.get("null") == "***":
                assert new[index] in ("***", None)
            else:
                assert new[index] == (None if old[index] is None else "***")


def cut(whole: bytes, data: st.DataObject) -> list[bytes]:
    """The same bytes cut into messages anywhere."""
    if not whole:
        return []
    places = data.draw(st.sets(st.integers(0, len(whole)), max_size=5))
    return [whole[a:b] for a, b in pairwise([0, *sorted(places), len(whole)])]


@given(st.binary(max_size=60), st.sampled_from(["text", "csv", "binary"]), st.booleans())
def test_of_any_bytes_only_masked_rows_come_through(payload: bytes, name: str, whole: bool) -> None:
    """Neither a rogue row nor half a one shows what it holds."""
    form = CopyFormat(name, delimiter=b"," if name == "csv" else b"\t", null=b"" if name == "csv" else b"\\N")
    stream = CopyStream(CopyPlan(form, MaskPlan(2, ((0, b"***"), (1, None)), frozenset({0, 1}))))
    if whole and name == "binary":
        payload = HEADER + payload
    shown = b""
    try:
        shown = b"".join(payloads_of(stream.rewrite(messages([payload]))))
        shown += b"".join(payloads_of(stream.finish()))
    except BrokenRow:
        pass
    row = {"text": b"***\t\\N\n", "csv": b"***,\n", "binary": b"\0\2\0\0\0\3***\xff\xff\xff\xff"}[name]
    rest = shown.removeprefix(HEADER).removesuffix(b"\xff\xff") if name == "binary" else shown
    assert rest.replace(row, b"") in (b"", b"\xff\xff")


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


@pytest.mark.parametrize(
    "payload",
    [
        HEADER + b"\0\1\0\0\0\1s", HEADER + b"\0\2\0\0\0\1s\xff\xff\xff\xfe",
        HEADER[:11] + b"\0\1" + bytes(6),
        b"PGCOPY\n\xff\r\n\1" + bytes(8), HEADER + b"\xff\xffmore", HEADER[:15] + b"\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_a_binary_copy_of_another_shape_is_broken(payload: bytes) -> None:
    stream = CopyStream(CopyPlan(CopyFormat("binary"), MaskPlan(2, ((0, None),))))
    with pytest.raises(BrokenRow):
        stream.rewrite(messages([payload]))


@pytest.mark.parametrize("chunk", [b"d\0\0\0\3", b"d\0\0\0\x09ab\n", b"x\0\0\0\4", b"d\0"])
def test_half_a_message_is_broken(chunk: bytes) -> None:
    with pytest.raises(BrokenRow):
        CopyStream(CopyPlan(CopyFormat(), MaskPlan(1, ((0, None),)))).rewrite(chunk)


def test_half_a_row_at_the_end_is_broken_and_a_row_without_end_has_a_bound() -> None:
    plan = CopyPlan(CopyFormat(), MaskPlan(1, ((0, None),)))
    stream = CopyStream(plan)
    assert stream.rewrite(messages([b"secret"])) == b""
    with pytest.raises(BrokenRow, match="middle"):
        stream.finish()
    with pytest.raises(BrokenRow, match="longer"):
        CopyStream(plan, most=100).rewrite(messages([b"s" * 40] * 10))


def test_a_message_keeps_its_place_in_the_stream() -> None:
    """One row a message, as libpq promises its callers."""
    stream = CopyStream(CopyPlan(CopyFormat("csv", True, b",", b""), MaskPlan(2, ((1, b"***"),))))
    rows = [b"id,email\n", b'1,"a,b"\n', b"2,\n", b'"3\n4",x\n']
    assert payloads_of(stream.rewrite(messages(rows))) == [
        b"id,email\n",
        b"1,***\n",
        b"2,\n",
        b'"3\n4",***\n',
    ]


forms = st.sampled_from(
    [
        CopyFormat(), CopyFormat(delimiter=b","), CopyFormat(null=b"a"), CopyFormat(delimiter=b"*"),
        CopyFormat("csv", delimiter=b",", null=b""), CopyFormat("csv", delimiter=b"@", null=b"N", quote=b"'"),
        CopyFormat("csv", delimiter=b",", null=b"", escape=b"\\"),
        CopyFormat("csv", delimiter=b";", forced=True),
    ]
)  # fmt: skip
ways = st.sampled_from([b"***", None, b'a,\n"', last4, email, hasher(KEY), lambda value: None])
pieces = st.sampled_from([b"abcdefgh", b"\\N", b"\xc3\xa9", *(bytes([n]) for n in b"aN\\,\t@\"'\n\r*")])


@given(forms, st.lists(st.tuples(ways, st.booleans()), min_size=1, max_size=3), st.data())
def test_compiled_and_plain_make_the_same_of_rows(
    form: CopyFormat, columns: list[tuple[Replacement, bool]], data: st.DataObject
) -> None:
    plan = MaskPlan(
        len(columns) + 1,
        tuple((n, change) for n, (change, _) in enumerate(columns)),
        frozenset(n for n, (_, whatever) in enumerate(columns) if whatever),
    )
    end = (b"\n", form.delimiter)
    payload = st.lists(st.one_of(pieces, st.sampled_from(end)), max_size=12).map(b"".join)
    row = st.lists(payload, min_size=plan.width, max_size=plan.width).map(
        lambda it: form.delimiter.join(it) + b"\n"
    )
    chunk = messages(data.draw(st.lists(st.one_of(row, payload), min_size=1, max_size=3)))
    compiled = TextRows(form, plan).messages(chunk)
    stream = CopyStream(CopyPlan(form, plan))
    stream._rows.messages = lambda chunk: None  # type: ignore[method-assign]
    plain = stream.rewrite(chunk)
    if compiled is not None:
        assert compiled == plain
        assert stream.finish() == b""


def test_rows_of_the_server_are_rewritten_by_the_compiled_way(connection: Connection) -> None:
    for options, form in (("", CopyFormat()), ("CSV", CopyFormat("csv", delimiter=b",", null=b""))):
        rows = sent(
            connection, f"COPY (SELECT E'a\\\\,\"\\n', NULL, '', 'ada@example.com') TO STDOUT {options}"
        )
        assert TextRows(form, MaskPlan(4, ((3, email),))).messages(messages(rows * 3)) is not None
    first, *rest = sent(
        connection, "COPY (SELECT 'a', NULL, n FROM generate_series(1, 3) n) TO STDOUT BINARY"
    )
    rows = BinaryRows(MaskPlan(3, ((0, b"***"),)))
    assert rows.messages(messages([first])) is None
    rows.take(first)
    assert rows.messages(messages(rest[:-1])) == messages(
        [row.replace(b"\1a", b"\3***") for row in rest[:-1]]
    )


def test_a_message_of_two_binary_rows_is_not_taken_for_one() -> None:
    """The second row would go through as it is."""
    rows = BinaryRows(MaskPlan(1, ((0, b"***"),)))
    rows.take(HEADER)
    row = b"\0\1\0\0\0\6secret"
    assert rows.messages(messages([row + row])) is None
    assert rows.take(row + row) == (b"\0\1\0\0\0\3***" * 2, b"")
