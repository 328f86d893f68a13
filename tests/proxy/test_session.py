"""A session through the gate is what the server would say, and every statement of it is recorded."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.wire_client import RawClient, connect_asyncpg

if TYPE_CHECKING:
    from tests.proxy.conftest import House


async def test_psql_runs_through_the_gate(house: House) -> None:
    out, _ = await house.psql("select 1 + 1", "select count(*) from users")
    assert out == "2\n50\n"
    recording = await house.recording()
    assert [s.text for s in recording.statements] == ["select 1 + 1", "select count(*) from users"]
    assert [s.tag for s in recording.statements] == ["SELECT 1", "SELECT 1"]


async def test_a_simple_query_of_many_statements_is_one_record_with_all_tags(house: House) -> None:
    out, _ = await house.psql("select 1; select 2; create temp table t (a int)")
    assert out.startswith("1\n2\n")
    (statement,) = (await house.recording()).statements
    assert statement.tag == "SELECT 1; SELECT 1; CREATE TABLE"
    assert statement.rows == 2


async def test_an_error_is_the_servers_and_is_recorded(house: House) -> None:
    _, said = await house.psql("select 1/0", check=False)
    assert "division by zero" in said
    (statement,) = (await house.recording()).statements
    assert (statement.outcome, statement.sqlstate) == ("error", "22012")


async def test_notices_reach_the_client(house: House) -> None:
    _, said = await house.psql("do $$ begin raise notice 'hello %', 42; end $$")
    assert "NOTICE:  hello 42" in said


async def test_the_extended_protocol_is_recorded_with_its_values(house: House) -> None:
    async with await house.connect() as db:
        cursor = await db.execute("select id from users where id < %s and name like %s", (3, "name%"))
        assert await cursor.fetchall() == [(1,), (2,)]
    (statement,) = (await house.recording()).statements
    assert statement.text == "select id from users where id < $1 and name like $2"
    assert statement.parameters[1] == "name%"
    assert (statement.tag, statement.rows) == ("SELECT 2", 2)


async def test_prepared_statements_are_recorded_at_each_execution(house: House) -> None:
    async with await house.connect() as db:
        for value in range(4):
            await db.execute("select %s::int + 1", (value,), prepare=True)
    recording = await house.recording()
    assert [s.text for s in recording.statements] == ["select $1::int + 1"] * 4


async def test_a_pipeline_with_an_error_skips_to_the_sync_and_records_what_ran(house: House) -> None:
    async with await house.connect() as db:
        with pytest.raises(psycopg.errors.DivisionByZero):  # noqa: PT012
            async with db.pipeline():
                await db.execute("select 1")
                await db.execute("select 1/0")
                await db.execute("select 2")
        cursor = await db.execute("select 3")
        assert await cursor.fetchone() == (3,)
    recording = await house.recording()
    assert [(s.text, s.outcome) for s in recording.statements] == [
        ("select 1", "ok"),
        ("select 1/0", "error"),
        ("select 3", "ok"),
    ]


async def test_asyncpg_works_with_binary_values_cursors_and_transactions(house: House) -> None:
    db = await connect_asyncpg(house)
    async with db.transaction():
        cursor = await db.cursor("select id from users order by id")
        assert [row["id"] for row in await cursor.fetch(3)] == [1, 2, 3]
        assert [row["id"] for row in await cursor.fetch(2)] == [4, 5]
    assert await db.fetchval("select $1::bytea", b"\x00\xff") == b"\x00\xff"
    await db.executemany("select $1::int", [(1,), (2,), (3,)])
    await db.close()
    statements = (await house.recording()).statements
    fetches = [s for s in statements if s.text.startswith("select id")]
    assert [s.outcome for s in fetches] == ["suspended", "suspended"]
    assert [s.parameters for s in statements if s.text == "select $1::int"] == [
        ["\\x00000001"],
        ["\\x00000002"],
        ["\\x00000003"],
    ]


async def test_copy_goes_in_and_out(house: House) -> None:
    rows = "".join(f"{n}\tline {n}\n" for n in range(20_000))
    out, _ = await house.psql(
        "create temp table t (a int, b text)", "copy t from stdin", "copy t to stdout", stdin=rows
    )
    assert out.endswith(rows)
    recording = await house.recording()
    assert [s.tag for s in recording.statements] == ["CREATE TABLE", "COPY 20000", "COPY 20000"]


async def test_copy_in_the_extended_protocol_and_a_copy_that_fails(house: House) -> None:
    db = await connect_asyncpg(house)
    await db.execute("create temp table t (a int)")
    await db.copy_records_to_table("t", records=[(n,) for n in range(100)])
    with pytest.raises(asyncpg.PostgresError):
        await db.copy_to_table("t", source=_bytes(b"not a number\n"))
    assert await db.fetchval("select count(*) from t") == 100
    await db.close()
    async with await house.connect() as second, second.cursor() as cursor:
        await cursor.execute("create temp table t (a int)")
        with pytest.raises(KeyError):  # noqa: PT012
            async with cursor.copy("copy t from stdin") as copy:
                await copy.write("1\n")
                raise KeyError("the client gives up")
        await cursor.execute("select count(*) from t")
        assert await cursor.fetchone() == (0,)


async def _bytes(data: bytes) -> Any:
    yield data


async def test_copy_over_the_extended_protocol_swallows_the_early_sync_as_the_server_does(
    house: House,
) -> None:
    # libpq's PQexecParams sends Parse, Bind, Describe, Execute, Sync, then the data, then another Sync.
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"create temp table t (a int)"))
    await wire.until_ready()
    wire.send(codec.parse(b"", b"copy t from stdin") + codec.bind(codec.Bind(b"", b"", (), (), ())))
    wire.send(codec.message(b"E", b"\0" + struct.pack("!I", 0)) + codec.message(b"S"))
    assert [(await wire.receive())[0] for _ in range(3)] == [b"1", b"2", b"G"]
    wire.send(codec.message(b"d", b"1\n2\n") + codec.message(b"c") + codec.message(b"S"))
    assert await wire.until_ready() == [b"C", b"Z"]
    wire.send(codec.query(b"select count(*) from t"))
    assert await wire.until_ready() == [b"T", b"D", b"C", b"Z"]
    wire.close()
    assert [s.tag for s in (await house.recording()).statements] == ["CREATE TABLE", "COPY 2", "SELECT 1"]


async def test_a_cancel_from_the_owner_stops_the_statement(house: House) -> None:
    async with await house.connect() as db:
        running = asyncio.create_task(db.execute("select pg_sleep(30)"))
        await asyncio.sleep(0.3)
        await db.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        cursor = await db.execute("select 1")
        assert await cursor.fetchone() == (1,)


async def test_psql_cancels_with_control_c(house: House) -> None:
    process = await asyncio.create_subprocess_exec(
        "psql", "-XAt", house.dsn(), "-c", "select pg_sleep(30)", stderr=asyncio.subprocess.PIPE
    )
    await asyncio.sleep(0.7)
    process.send_signal(2)
    _, said = await asyncio.wait_for(process.communicate(), 5)
    assert b"canceling statement due to user request" in said


async def test_a_cancel_with_a_foreign_key_does_nothing(house: House) -> None:
    async with await house.connect() as db:
        running = asyncio.create_task(db.execute("select pg_sleep(1)"))
        await asyncio.sleep(0.2)
        pid = db.pgconn.backend_pid
        for secret in (b"\0\0\0\0", b"\1" * 4, b"", b"\0" * 200):
            _, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
            writer.write(codec.cancel_request(pid, secret))
            await writer.drain()
            writer.close()
        await running


async def test_the_client_never_sees_the_targets_own_cancel_key(house: House) -> None:
    async with await house.connect() as db:
        ((given, session),) = house.gate._door._keys[db.pgconn.backend_pid]  # type: ignore[attr-defined]
        assert given != session.target.secret


async def test_notifications_are_delivered(house: House) -> None:
    async with await house.connect() as listener, await house.connect() as speaker:
        await listener.execute("listen news")
        await speaker.execute("notify news, 'extra'")
        async for notice in listener.notifies(timeout=5, stop_after=1):
            assert notice.payload == "extra"
            return
    pytest.fail("no notification came")


async def test_a_function_call_message_is_refused_and_the_session_goes_on(house: House) -> None:
    async with await house.connect() as db:
        large = db.pgconn
        # pg_backend_pid is 2026; any function will do
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await _raw_function_call(house)
        assert large.status == psycopg.pq.ConnStatus.OK


async def _raw_function_call(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.message(b"F", struct.pack("!IHHH", 2026, 0, 0, 0)))
    kind, body = await wire.receive()
    assert kind == b"E"
    fields = codec.read_report(body)
    assert await wire.receive() == (b"Z", b"I")
    wire.send(codec.query(b"select 1"))
    assert [(await wire.receive())[0] for _ in range(4)] == [b"T", b"D", b"C", b"Z"]
    wire.close()
    raise psycopg.errors.lookup(fields[b"C"].decode())(fields[b"M"].decode())


async def test_messages_in_single_bytes_are_understood(house: House) -> None:
    wire = await RawClient.enter(house)
    for byte in (
        codec.parse(b"s", b"select 7")
        + codec.bind(codec.Bind(b"", b"s", (), (), ()))
        + codec.message(b"E", b"\0" + struct.pack("!I", 0))
        + codec.message(b"S")
    ):
        wire.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await wire.until_ready() == [b"1", b"2", b"D", b"C", b"Z"]
    wire.close()
    assert await house.texts() == ["select 7"]


@pytest.mark.parametrize(
    "sent",
    [
        codec.message(b"?", b""),
        b"Q\0\0\0\3",
        codec.message(b"Q", b"select 1\0 hidden"),
        codec.message(b"Q", b"select 1"),
        codec.message(b"E", b"\0\0"),
        codec.message(b"B", b"no end"),
        b"Q" + struct.pack("!I", 1 << 30),
    ],
)
async def test_a_broken_message_ends_the_session_and_says_so(house: House, sent: bytes) -> None:
    wire = await RawClient.enter(house)
    wire.send(sent)
    kind, body = await wire.receive()
    assert (kind, codec.read_report(body)[b"C"]) == (b"E", b"08P01")
    with pytest.raises(asyncio.IncompleteReadError):
        await wire.receive()
    wire.close()
    assert (await house.closed())[0].reason == "error"


async def test_a_message_in_the_middle_of_copy_data_ends_the_session(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"create temp table t (a int)"))
    await wire.until_ready()
    wire.send(codec.query(b"copy t from stdin") + codec.query(b"select 1"))
    assert (await wire.until_cut())[b"C"] == b"08P01"


async def test_a_prepared_statement_that_could_not_be_replaced_keeps_its_text(house: House) -> None:
    wire = await RawClient.enter(house)
    execute = codec.message(b"E", b"\0" + struct.pack("!I", 0))
    sync = codec.message(b"S")
    wire.send(codec.parse(b"s", b"select 1") + sync)
    await wire.until_ready()
    wire.send(codec.parse(b"s", b"select 2") + sync)
    assert await wire.until_ready() == [b"E", b"Z"]
    wire.send(codec.bind(codec.Bind(b"", b"s", (), (), ())) + execute + sync)
    await wire.until_ready()
    wire.close()
    statements = (await house.recording()).statements
    assert [(s.text, s.outcome) for s in statements] == [("select 2", "error"), ("select 1", "ok")]


async def test_a_large_result_needs_no_memory_for_the_whole(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"select repeat('x', 1000), generate_series(1, 200000)"))
    await asyncio.sleep(1.0)  # 200 MB that nobody reads yet
    client = house.gate.registry.all()[0].client  # type: ignore[attr-defined]
    target = house.gate.registry.all()[0].target.greeter  # type: ignore[attr-defined]
    assert client.get_write_buffer_size() < 8 << 20
    assert not target.is_reading()
    kinds = await wire.until_ready()
    assert kinds.count(b"D") == 200_000
    wire.close()


async def test_a_client_that_does_not_let_the_server_read_slows_its_own_copy_only(house: House) -> None:
    rows = b"1234567890\n" * 1_000_000
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"create temp table t (a text)"))
    await wire.until_ready()
    wire.send(codec.query(b"copy t from stdin"))
    for start in range(0, len(rows), 1 << 20):
        wire.send(codec.message(b"d", rows[start : start + (1 << 20)]))
    wire.send(codec.message(b"c"))
    async with asyncio.timeout(30):
        assert (await wire.until_ready())[-2:] == [b"C", b"Z"]
    wire.close()


async def test_metrics_count_sessions_statements_and_bytes(house: House) -> None:
    await house.psql("select 1", "select 2")
    await house.closed()
    metrics = house.gate.metrics()
    assert (metrics.opened, metrics.open, metrics.statements, metrics.rows) == (1, 0, 2, 2)
    assert metrics.bytes_in > 0
    assert metrics.bytes_out > 0


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
async def test_pgbench_runs_and_each_of_its_transactions_is_recorded(house: House, mode: str) -> None:
    script = house.directory / "select.sql"
    script.write_text("\\set n random(1, 50)\nselect name from users where id = :n;\n")
    out, _ = await house.run(
        "pgbench", "-n", "-f", str(script), "-M", mode, "-c", "4", "-T", "1", house.dsn()
    )
    done = re.search(r"number of transactions actually processed: (\d+)", out)
    assert done is not None
    await house.closed(5)  # pgbench's first connection asks for the tables only
    counted = 0
    for index in range(5):
        counted += sum("where id =" in s.text for s in (await house.recording(index)).statements)
    assert counted == int(done[1])
