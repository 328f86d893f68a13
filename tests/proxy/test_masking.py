"""Masked columns on the wire: by every protocol and shape of a result, no clear value passes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
from typing import TYPE_CHECKING

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.wire_client import RawClient, connect_asyncpg
from workflows.model import Action, Guardrail, Mask, StatementClass

if TYPE_CHECKING:
    from tests.proxy.conftest import House, OpenHouse, Server

SECRET = "secret.example"


async def test_a_masked_column_is_masked_by_its_origin_and_others_are_clear(masked: House) -> None:
    out, _ = await masked.psql("select * from users where id = 7")
    assert out == "7|name7|***|***00-7|27\n"


async def test_psql_describes_tables_and_runs_its_catalog_queries(masked: House) -> None:
    out, said = await masked.psql("\\d users", "\\dt", "\\df", "\\du", "\\l")
    assert "email" in out
    assert said == ""


@pytest.mark.parametrize(
    "text",
    [
        "select email as id from users",
        "select upper(email) from users",
        "select u.email || '' from users u",
        "with x as (select email e from users) select e from x",
        "select string_agg(email, ',') from users",
        "select row_to_json(users) from users",
        "select users from users",
        "update users set age = age returning email",
        "select (select email from users where id = 1)",
        "copy users to stdout",
        "copy (select email from users) to stdout",
        "select email::int from users",
        "explain analyze select * from users where email = 'x'",
        "begin; declare c cursor for select email from users; fetch 5 from c; commit",
        "begin; declare c cursor for select lower(email) from users; move 1 from c; fetch all from c; commit",
        "prepare p as select email from users; execute p",
        "insert into users (id, email) values (1000, 'user1@secret.example')",
        "table users",
        "select * from (values (1)) v(a), lateral (select email from users limit 1) l",
        "create temp table stolen as select email from users; select * from stolen",
        "do $$ begin raise notice '%', (select email from users limit 1); end $$",
        "select pg_notify('x', email) from users",
        "select query_to_xml('select email from users', true, true, '')",
    ],
)
async def test_no_statement_shows_a_clear_value(masked: House, text: str) -> None:
    out, said = await masked.psql(text, check=False)
    assert SECRET not in out + said.replace(text, "")
    for statement in (await masked.recording()).statements:
        assert SECRET not in statement.message


@pytest.mark.parametrize("binary", [False, True])
async def test_psycopg_gets_masked_values_in_both_formats(masked: House, binary: bool) -> None:
    async with await masked.connect() as db, db.cursor(binary=binary) as cursor:
        for _ in range(7):  # becomes a prepared statement on the way
            await cursor.execute("select id, email, age from users where id = %s", (3,))
            assert await cursor.fetchall() == [(3, "***", 23)]


async def test_a_server_side_cursor_is_masked(masked: House) -> None:
    async with await masked.connect() as db, db.transaction(), db.cursor(name="c") as cursor:
        await cursor.execute("select id, email from users order by id")
        assert await cursor.fetchmany(2) == [(1, "***"), (2, "***")]


async def test_asyncpg_which_describes_statements_only_is_masked_too(masked: House) -> None:
    db = await connect_asyncpg(masked)
    for _ in range(2):
        rows = await db.fetch("select id, email, name from users where id < $1 order by id", 3)
        assert [tuple(row) for row in rows] == [(1, "***", "name1"), (2, "***", "name2")]
    async with db.transaction():
        cursor = await db.cursor("select email from users")
        assert [row["email"] for row in await cursor.fetch(2)] == ["***", "***"]
        assert [row["email"] for row in await cursor.fetch(2)] == ["***", "***"]
    await db.close()


async def test_a_pipeline_is_masked(masked: House) -> None:
    async with await masked.connect() as db:
        async with db.pipeline():
            first = await db.execute("select email from users where id = 1")
            second = await db.execute("select name from users where id = 1")
            third = await db.execute("select card from users where id = 1")
        assert await first.fetchone() == ("***",)
        assert await second.fetchone() == ("name1",)
        assert await third.fetchone() == ("***00-1",)


async def test_a_copy_of_clear_columns_passes(masked: House) -> None:
    out, _ = await masked.psql("copy users (id, name) to stdout")
    assert out.startswith("1\tname1\n")


async def test_a_refused_statement_says_why_and_the_session_goes_on(masked: House) -> None:
    async with await masked.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="cannot rewrite the rows"):
            async with db.cursor().copy("copy users to stdout (encoding 'LATIN1')") as copy:
                await copy.read()
        cursor = await db.execute("select 1")
        assert await cursor.fetchone() == (1,)
    outcomes = [s.outcome for s in (await masked.recording()).statements]
    assert outcomes == ["refused", "ok"]


@pytest.mark.parametrize("extended", [False, True])
async def test_a_refusal_aborts_the_open_transaction_as_an_error_does(masked: House, extended: bool) -> None:
    async with await masked.connect() as db:
        cursor = db.cursor() if extended else psycopg.AsyncClientCursor(db)
        await cursor.execute("begin")
        await cursor.execute("insert into notes (body) values ('from a refused transaction')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await cursor.execute("do $$ begin end $$")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await cursor.execute("select 1")
        await cursor.execute("commit")
        await cursor.execute("select count(*) from notes where body = 'from a refused transaction'")
        assert await cursor.fetchone() == (0,)


async def test_a_refusal_in_a_pipeline_skips_the_rest_of_it(masked: House) -> None:
    async with await masked.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # noqa: PT012
            async with db.pipeline():
                await db.execute("insert into notes (body) values ('before')")
                await db.execute("do $$ begin end $$")
                await db.execute("insert into notes (body) values ('after')")
        cursor = await db.execute("select count(*) from notes where body in ('before', 'after')")
        assert await cursor.fetchone() == (0,)


async def test_a_unique_violation_does_not_show_the_value(masked: House) -> None:
    _, said = await masked.psql(
        "update users set email = (select email from users where id = 2) where id = 1",
        "insert into users (id, email) values (1001, 'user5@secret.example')",
        check=False,
    )
    assert "23505" not in said or SECRET not in said
    assert SECRET not in said


async def test_a_temp_table_made_in_the_session_can_be_read(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("create temp table mine (a int, b text)")
        await db.execute("insert into mine values (1, 'clear')")
        cursor = await db.execute("select b from mine")
        assert await cursor.fetchone() == ("clear",)
        async with db.transaction():
            await db.execute("create temp table other (a text)")
            await db.execute("insert into other values ('inside')")
            cursor = await db.execute("select a from other")
            assert await cursor.fetchone() == ("inside",)


async def test_a_search_path_of_the_session_stays_what_it_was(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("set search_path to public")
        await db.execute("create temp table another (a int)")
        cursor = await db.execute("show search_path")
        assert await cursor.fetchone() == ("public",)


async def test_a_view_that_others_make_over_a_masked_column_is_masked(masked: House, server: Server) -> None:
    server.ask("drop view if exists late_view")
    async with await masked.connect() as db:
        await db.execute("select 1")
        server.ask("create view late_view as select lower(email) as harmless from users")
        server.ask("grant select on late_view to app_read")
        cursor = await db.execute("select harmless from late_view limit 1")
        assert await cursor.fetchone() == ("***",)
    server.ask("drop view late_view")


@pytest.mark.parametrize("pipelined", [False, True])
async def test_a_function_made_a_moment_ago_is_not_taken_for_postgresqls_own(
    masked: House, server: Server, pipelined: bool
) -> None:
    server.ask("drop function if exists fresh(int)")
    async with await masked.connect() as db:
        await db.execute("select 1")
        server.ask("""
            create function fresh(n int) returns text language sql security definer
                as 'select email from public.users where id = n'""")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="PostgreSQL's own"):
            await (_behind_another(db, "select fresh(1)") if pipelined else db.execute("select fresh(1)"))
        # A type's name that is written like a call is looked up as well, and runs.
        cursor = await db.execute("select regnamespace('public')::text")
        assert await cursor.fetchone() == ("public",)
    server.ask("drop function fresh(int)")


async def _behind_another(db: psycopg.AsyncConnection, text: str) -> None:
    async with db.pipeline():
        await db.execute("select 1")
        await db.execute(text)  # type: ignore[arg-type]


async def test_a_prepared_statement_follows_a_view_that_is_redefined(masked: House, server: Server) -> None:
    server.ask("create or replace view turn as select name as x from users")
    server.ask("grant select on turn to app_read")
    async with await masked.connect() as db:
        cursor = await db.execute("select x from turn limit 1", prepare=True)
        assert (await cursor.fetchone())[0].startswith("name")  # type: ignore[index]
        server.ask("create or replace view turn as select email as x from users")
        masked.gate.registry.all()[0].reading.checked -= 60  # type: ignore[attr-defined]
        await db.execute("select 1")
        cursor = await db.execute("select x from turn limit 1", prepare=True)
        assert await cursor.fetchone() == ("***",)
    server.ask("drop view turn")


async def test_rows_in_single_bytes_are_masked(masked: House, server: Server) -> None:
    """The answer of the target, cut at every byte, comes out the same."""
    from proxy.postgres.target_end import TargetEnd

    async with await masked.connect() as db:
        session = masked.gate.registry.all()[0]
        whole = TargetEnd.data_received
        try:
            TargetEnd.data_received = (
                lambda self, chunk: [  # type: ignore[assignment, method-assign, misc]
                    whole(self, chunk[n : n + 1]) for n in range(len(chunk))
                ]
            )
            cursor = await db.execute("select id, email, age from users order by id limit 3")
            assert await cursor.fetchall() == [(1, "***", 21), (2, "***", 22), (3, "***", 23)]
        finally:
            TargetEnd.data_received = whole  # type: ignore[method-assign]
        assert not session.over


async def test_a_cursor_of_sql_executed_by_the_protocol_is_masked(masked: House) -> None:
    wire = await RawClient.enter(masked)
    wire.send(codec.query(b"begin; declare c cursor for select email from users"))
    await wire.until_ready()
    wire.send(codec.message(b"E", b"c\0" + struct.pack("!I", 2)) + codec.message(b"S"))
    said = io.BytesIO()
    kind = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while kind != b"Z":
            kind, body = await wire.receive()
            said.write(body)
    assert SECRET.encode() not in said.getvalue()
    wire.close()


async def test_a_name_prepared_by_sql_behind_the_protocols_back_is_masked(masked: House) -> None:
    wire = await RawClient.enter(masked)
    sync = codec.message(b"S")
    wire.send(codec.parse(b"s", b"select name from users") + sync)
    await wire.until_ready()
    wire.send(codec.query(b"deallocate s") + codec.query(b"prepare s as select email from users"))
    await wire.until_ready()
    await wire.until_ready()
    wire.send(codec.bind(codec.Bind(b"", b"s", (), (), ())))
    wire.send(codec.message(b"E", b"\0" + struct.pack("!I", 0)) + sync)
    said, kind = b"", b""
    while kind != b"Z":
        kind, body = await wire.receive()
        said += body
    assert b"***" in said
    assert SECRET.encode() not in said
    wire.close()


async def test_parameters_of_statements_on_masked_columns_are_not_recorded(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("select id from users where name = %s", ("clear",))
        await db.execute("update users set email = %s where id = -1", ("new@secret.example",))
    statements = (await masked.recording()).statements
    assert all(SECRET not in str(s.parameters) for s in statements)


async def test_encodings_the_gate_cannot_read_are_refused(masked: House) -> None:
    with pytest.raises(psycopg.OperationalError, match="UTF8"):
        await masked.connect(client_encoding="SJIS")
    async with await masked.connect() as db:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await db.execute("set client_encoding to 'SJIS'")


async def test_a_mask_on_a_table_that_is_not_there_lets_nothing_through(
    open_house: OpenHouse, server: Server
) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), masks=(Mask("public.gone", "email"),))
    _, said = await house.psql("select 1", check=False)
    assert "public.gone" in said


async def test_a_guardrail_refuses_by_class_and_names_itself(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    rails = (Guardrail("no-drops", Action.REFUSE, frozenset({StatementClass.DESTRUCTIVE})),)
    house.authority.grant(server.upstream(), guardrails=rails)
    out, said = await house.psql("drop table users", "select 1", check=False)
    assert "guardrail no-drops" in said
    assert out == "1\n"


async def test_the_hash_mask_keeps_equal_values_equal(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), masks=(Mask("public.users", "email", "hash"),))
    out, _ = await house.psql(
        "select email from users where id = 1", "select email from users where id in (1, 2)"
    )
    first, again, other = out.split()
    assert first == again != other
    assert len(first) == 16


async def test_a_hundred_thousand_rows_are_masked(masked: House, server: Server) -> None:
    server.ask(
        "create table many as"
        " select n as id, 'm' || n || '@secret.example' as email from generate_series(1, 100000) n"
    )
    server.ask("grant select on many to app_read")
    grant = next(iter(masked.authority.grants.values()))
    masked.authority.grants.clear()
    masked.authority.grant(grant.upstream, masks=(Mask("public.many", "email"),))
    out, _ = await masked.psql("select * from many order by id")
    lines = out.splitlines()
    assert len(lines) == 100_000
    assert all(line.endswith("|***") for line in lines)
    server.ask("drop table many")


async def test_simple_queries_sent_ahead_wait_for_the_catalog_and_not_in_a_failed_transaction(
    masked: House,
) -> None:
    wire = await RawClient.enter(masked)
    texts = (b"begin", b"create temp table ahead (a int)", b"select * from ahead", b"select 1/0", b"select 1")
    wire.send(b"".join(codec.query(text) for text in texts))
    assert await wire.until_ready() == [b"C", b"Z"]
    assert await wire.until_ready() == [b"C", b"Z"]
    assert await wire.until_ready() == [b"T", b"C", b"Z"]
    assert (await wire.until_ready())[-2:] == [b"E", b"Z"]
    assert await wire.until_ready() == [b"E", b"Z"]
    wire.send(
        codec.query(b"rollback")
        + codec.query(b"begin")
        + codec.query(b"create temp table again (a int)")
        + codec.query(b"select 1/0")
        + codec.query(b"select 1 from again")
        + codec.query(b"rollback")
    )
    for _ in range(3):
        assert await wire.until_ready() == [b"C", b"Z"]
    for _ in range(2):
        assert (await wire.until_ready())[-2:] == [b"E", b"Z"]
    assert await wire.until_ready() == [b"C", b"Z"]
    wire.close()


async def test_what_was_made_in_a_transaction_that_is_rolled_back_is_unknown_again(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("begin")
        await db.execute("create temp table brief (a text)")
        await db.execute("select a from brief")
        await db.execute("rollback")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await db.execute("select a from brief")
        await db.execute("create temp table brief (a text, b int)")
        cursor = await db.execute("select * from brief")
        assert len(cursor.description or ()) == 2


async def test_a_pipeline_without_sync_is_masked_behind_a_change_of_the_catalog(masked: House) -> None:
    wire = await RawClient.enter(masked)
    execute = codec.message(b"E", b"\0" + struct.pack("!I", 0))
    bind = codec.bind(codec.Bind(b"", b"", (), (), ()))
    create = codec.parse(b"", b"create temp table unsynced (a int)") + bind + execute
    select = codec.parse(b"", b"select * from users") + bind + execute
    wire.send(create + select + codec.message(b"S"))
    kinds, shown = [], b""
    while not kinds or kinds[-1] != b"Z":
        kind, body = await wire.receive()
        kinds.append(kind)
        shown += body
    assert kinds == [b"1", b"2", b"C", b"1", b"2", *[b"D"] * 50, b"C", b"Z"]
    assert b"secret.example" not in shown
    wire.close()


async def test_set_transaction_still_works_when_the_catalog_is_due_for_a_look(masked: House) -> None:
    async with await masked.connect() as db:
        await db.execute("begin")
        masked.gate.registry.all()[0].reading.checked -= 60  # type: ignore[attr-defined]
        await db.execute("set transaction isolation level serializable")
        cursor = await db.execute("select count(*) from notes")
        assert await cursor.fetchone()
        await db.execute("commit")
