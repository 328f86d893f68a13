"""What honest clients send in a session whose statements are read: it passes, and fails as at the server."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.wire_client import RawClient
from workflows.model import Action, Guardrail, Mask, StatementClass

if TYPE_CHECKING:
    from tests.proxy.conftest import House, OpenHouse, Server

KNOWN = frozenset(StatementClass) - {StatementClass.UNKNOWN}
EVERYTHING = Guardrail("all", Action.ALLOW, KNOWN)
SYNC = codec.message(b"S")


@pytest.fixture
async def reading(open_house: OpenHouse, server: Server) -> House:
    """A session that is read, and may do whatever could be read."""
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(EVERYTHING,))
    return house


def ask(text: str, name: bytes = b"") -> bytes:
    bind = codec.bind(codec.Bind(b"", name, (), (), ()))
    return codec.parse(name, text.encode()) + bind + codec.message(b"E", b"\0" + struct.pack("!I", 0))


async def answers(wire: RawClient) -> tuple[list[bytes], list[tuple[bytes | None, ...]]]:
    """The types of the messages up to ReadyForQuery, and the rows among them."""
    kinds, rows = [], []
    while not kinds or kinds[-1] != b"Z":
        kind, body = await wire.receive()
        kinds.append(kind)
        if kind == b"D":
            rows.append(codec.read_data_row(body))
    return kinds, rows


# --- a pipeline that changes the catalog


async def test_a_pipeline_may_create_and_use_a_table_without_a_sync_between(reading: House) -> None:
    wire = await RawClient.enter(reading)
    wire.send(
        ask("create table made_here (n int)")
        + ask("insert into made_here values (1), (2)")
        + ask("select n from made_here order by n")
        + ask("alter table made_here add column more text")
        + ask("select n, more from made_here order by n")
        + ask("drop table made_here")
        + SYNC
    )
    kinds, rows = await answers(wire)
    assert b"E" not in kinds
    assert rows == [(b"1",), (b"2",), (b"1", None), (b"2", None)]
    wire.send(ask("select 1") + SYNC)
    assert (await answers(wire))[1] == [(b"1",)]
    wire.close()
    texts = await reading.texts()
    assert [text.split()[0] for text in texts] == [
        "create",
        "insert",
        "select",
        "alter",
        "select",
        "drop",
        "select",
    ]


async def test_such_a_pipeline_stays_one_transaction(reading: House) -> None:
    """The gate's own questions in the middle commit nothing."""
    wire = await RawClient.enter(reading)
    wire.send(
        ask("create table made_here (n int)")
        + ask("insert into made_here values (1)")
        + ask("select 1/0")
        + SYNC
    )
    kinds, _ = await answers(wire)
    assert kinds[-2:] == [b"E", b"Z"]
    wire.close()
    assert reading.server.ask("select to_regclass('public.made_here')") == [(None,)]


async def test_the_gates_questions_leave_the_settings_as_they_were(reading: House) -> None:
    wire = await RawClient.enter(reading)
    for begin, end in (("", ""), ("begin", "rollback")):
        wire.send(
            (ask(begin) if begin else b"")
            + ask("set search_path = '$user', public, pg_catalog")
            + ask("set local statement_timeout = '12345ms'")
            + ask("create temp table t_here (n int)")
            + ask("select current_setting('search_path'), current_setting('statement_timeout')")
            + ask("drop table t_here")
            + (ask(end) if end else b"")
            + SYNC
            + ask("select current_setting('search_path'), current_setting('statement_timeout')")
            + ask("reset search_path")
            + SYNC
        )
        _, inside = await answers(wire)
        _, after = await answers(wire)
        assert inside[0] == (b'"$user", public, pg_catalog', b"12345ms")
        assert after[0] == ((b'"$user", public' if end else inside[0][0]), b"0")
    wire.close()


async def test_what_a_pipeline_has_just_made_is_masked_and_guarded_as_ever(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house()
    no_notes = Guardrail("no-notes", Action.REFUSE, tables=("public.notes",))
    house.authority.grant(
        server.upstream(), masks=(Mask("public.users", "email", "full"),), guardrails=(no_notes, EVERYTHING)
    )
    wire = await RawClient.enter(house)
    for attack in (
        "select email from users where id = 1",
        "create temp table copied as select email from users",
        "create view seen_here as select email from users",
        "alter table users rename column email to mail",
        "select * from noted",
        "create rule r as on insert to made_here do also select email from users",
    ):
        wire.send(
            ask("create temp table made_here (n int)")
            + ask("create temp view noted as select * from notes")
            + ask(attack)
            + ask("select * from made_here")
            + ask("select mail from users")
            + SYNC
        )
        kinds, rows = await answers(wire)
        assert not any(b"secret.example" in value for row in rows for value in row if value)
        assert b"E" in kinds
    wire.close()
    assert server.ask("select count(*) from information_schema.columns where column_name = 'mail'") == [(0,)]


# --- failing as the server does


@pytest.mark.parametrize(
    "text",
    [
        "selec 1",
        "select 'ünï' frm x y z",
        "select\n  1 +",
        "select 'unclosed",
        "/* not closed",
        "select 1;\nselect )",
    ],
)
async def test_a_syntax_error_is_the_servers_own_with_its_place(reading: House, text: str) -> None:
    said = []
    for dsn in (reading.dsn(), reading.server.admin):
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
            with pytest.raises(psycopg.errors.SyntaxError) as caught:
                await db.execute(text.encode())
            it = caught.value.diag
            said.append(
                (it.severity, it.sqlstate, it.message_primary, it.statement_position, it.message_hint)
            )
    assert said[0] == said[1]


async def test_a_name_that_was_never_prepared_fails_as_at_the_server(reading: House) -> None:
    wire = await RawClient.enter(reading)
    for message, name in (
        (codec.query(b"execute nowhere"), 'prepared statement "nowhere"'),
        (codec.query(b"explain analyze execute nowhere(1)"), 'prepared statement "nowhere"'),
        (codec.bind(codec.Bind(b"", b"nowhere", (), (), ())) + SYNC, 'prepared statement "nowhere"'),
        (codec.bind(codec.Bind(b"", b"", (), (), ())) + SYNC, "unnamed prepared statement"),
    ):
        wire.send(message)
        kind, body = await wire.receive()
        fields = codec.read_report(body)
        assert (kind, fields[b"C"], fields[b"M"].decode()) == (b"E", b"26000", f"{name} does not exist")
        assert (await wire.receive())[0] == b"Z"
    wire.close()


@pytest.mark.parametrize(
    "text",
    [
        "set client_encoding = latin1",
        "set names 'LATIN1'",
        "select set_config('client_encoding', 'LATIN1', false)",
        "set client_encoding = sjis",
    ],
)
async def test_an_encoding_that_the_gate_cannot_read_is_an_error_and_the_session_goes_on(
    reading: House, text: str
) -> None:
    async with await reading.connect() as db:
        with pytest.raises(psycopg.Error, match="client_encoding"):
            await db.execute(text.encode())
        assert await (await db.execute("select 'ünï', current_setting('client_encoding')")).fetchone() == (
            "ünï",
            "UTF8",
        )


async def test_a_database_with_another_default_encoding_is_entered_in_utf8(
    reading: House, server: Server
) -> None:
    server.ask("alter role minted set client_encoding = 'LATIN1'")
    try:
        wire = await RawClient.enter(reading)
        wire.send(codec.query("select 'ünï', current_setting('client_encoding')".encode()))
        _, rows = await answers(wire)
        wire.close()
    finally:
        server.ask("alter role minted reset client_encoding")
    assert rows == [("ünï".encode(), b"UTF8")]


# --- what drivers make of what people write


async def test_what_pgjdbc_and_pg_dump_send_passes(reading: House) -> None:
    async with await reading.connect() as db:
        await db.execute("create table kept (id int generated always as identity, body text, n int)")
        for text in (
            "INSERT INTO kept OVERRIDING SYSTEM VALUE VALUES (1, 'one', 1)",
            "INSERT INTO kept (id, body) OVERRIDING USER VALUE SELECT 9, 'two'",
            "insert into kept (body, n) values (('three'),('3'::int4)),(('four'),('4'::int4))",
            "insert into kept (n) values (('5'::int4)),(('6'::int4)),(('7'::int4))",
            "select * from upper(('x')) as result",
            "select * from upper('x') as result",
        ):
            await db.execute(text.encode())
        assert await (await db.execute("select count(*) from kept")).fetchone() == (7,)
        await db.execute("drop table kept")
