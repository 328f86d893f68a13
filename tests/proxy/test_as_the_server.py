"""What clients see is what the server would say: the pid, parameters, versions and large objects."""

from __future__ import annotations

import asyncio
import ssl
import struct

import psycopg
import pytest

from proxy.postgres import codec
from tests.proxy.conftest import House, OpenHouse, Server
from tests.proxy.wire_client import RawClient, last_word, message
from workflows.model import Action, Guardrail, StatementClass

EVERYTHING = Guardrail("all", Action.ALLOW)


async def test_the_pid_is_the_targets_so_that_a_client_knows_its_own_notifications(house: House) -> None:
    async with await house.connect() as db:
        answer = await (await db.execute("select pg_backend_pid()")).fetchone()
        assert answer == (db.pgconn.backend_pid,)
        await db.execute("listen news")
        await db.execute("notify news, 'hello'")
        async for notice in db.notifies(timeout=5, stop_after=1):
            assert notice.pid == db.pgconn.backend_pid


async def test_a_guess_at_the_cancel_secret_cancels_nothing(house: House) -> None:
    async with await house.connect() as db:
        running = asyncio.create_task(db.execute("select pg_sleep(0.5)"))
        await asyncio.sleep(0.1)
        for guess in (b"\0\0\0\0", b"", b"\0" * 32):
            _, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
            writer.write(codec.cancel_request(db.pgconn.backend_pid, guess))
            await writer.drain()
            writer.close()
        await running


async def greeted(house: House, version: int) -> list[tuple[bytes, bytes]]:
    """What a client of this protocol version hears until it may ask."""
    context = ssl.create_default_context(cafile=str(house.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    writer.write(codec.untagged(codec.SSL_REQUEST))
    assert await reader.readexactly(1) == b"S"
    await writer.start_tls(context, server_hostname="127.0.0.1")
    writer.write(codec.startup({"user": "ada", "database": "prod-db"}, version))
    heard: list[tuple[bytes, bytes]] = []
    if version > codec.PROTOCOL_3_2:
        heard.append(await message(reader))
    writer.write(await last_word(reader, writer))
    while not heard or heard[-1][0] != b"Z":
        heard.append(await message(reader))
    writer.close()
    return heard


@pytest.mark.parametrize(("minor", "negotiated", "secret"), [(0, False, 4), (2, False, 32), (9, True, 32)])
async def test_protocol_3_2_is_spoken_with_its_long_cancel_key(
    house: House, minor: int, negotiated: bool, secret: int
) -> None:
    heard = await greeted(house, codec.PROTOCOL_3_0 + minor)
    versions = [body for kind, body in heard if kind == b"v"]
    assert versions == ([struct.pack("!II", codec.PROTOCOL_3_2, 0)] if negotiated else [])
    (key,) = [body for kind, body in heard if kind == b"K"]
    assert len(key) == 4 + secret


async def test_a_session_that_is_not_read_may_begin_with_any_setting(house: House) -> None:
    options = "-c standard_conforming_strings=off -c enable_seqscan=off -c role=app_read"
    async with await house.connect(options=options, client_encoding="latin1") as db:
        row = await (await db.execute("select current_user, current_setting('enable_seqscan')")).fetchone()
        assert row == ("app_read", "off")
        assert db.info.encoding == "iso8859-1"


async def test_a_session_that_is_read_may_not(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    house.authority.grant(server.upstream(), guardrails=(EVERYTHING,))
    for options in ("-c standard_conforming_strings=off", "-c role=app_read"):
        with pytest.raises(psycopg.OperationalError, match="gate"):
            await house.connect(options=options)


def a_call(function: int, *arguments: bytes) -> bytes:
    """A FunctionCall with binary arguments, as libpq sends it."""
    values = b"".join(struct.pack("!I", len(it)) + it for it in arguments)
    return codec.message(b"F", struct.pack("!IHHH", function, 1, 1, len(arguments)) + values + b"\0\1")


async def test_large_objects_go_through_as_libpq_sends_them(house: House) -> None:
    wire = await RawClient.enter(house)
    wire.send(codec.query(b"begin"))
    await wire.until_ready()
    wire.send(a_call(957, struct.pack("!I", 0x60000)))  # lo_creat
    kind, body = await wire.receive()
    assert (kind, body[:4], await wire.until_ready()) == (b"V", b"\0\0\0\4", [b"Z"])
    oid = body[4:]
    for call, answer in (
        (a_call(952, oid, struct.pack("!I", 0x60000)), struct.pack("!II", 4, 0)),  # lo_open
        (a_call(955, b"\0\0\0\0", b"large"), struct.pack("!II", 4, 5)),  # lowrite
        (a_call(956, b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\0"), struct.pack("!II", 4, 1)),  # lo_lseek
        (a_call(954, b"\0\0\0\0", b"\0\0\0\7"), b"\0\0\0\4arge"),  # loread
    ):
        wire.send(call)
        assert await wire.receive() == (b"V", answer)
        assert await wire.until_ready() == [b"Z"]
    wire.send(a_call(952, b"\0\0\0\1", b"\0\0\0\0"))  # no such object
    assert await wire.until_ready() == [b"E", b"Z"]
    wire.send(codec.query(b"rollback") + codec.message(b"X"))
    statements = (await house.recording()).statements
    assert [it.text for it in statements][1:4:2] == [
        "select pg_catalog.lo_creat($1)",
        "select pg_catalog.lowrite($1, $2)",
    ]
    assert statements[3].parameters == ["\\x00000000", "\\x" + b"large".hex()]
    assert statements[6].outcome == "error"


async def test_a_large_object_call_is_read_like_its_select(open_house: OpenHouse, server: Server) -> None:
    house = await open_house()
    named = Guardrail("no-objects", Action.REFUSE, classes=frozenset(StatementClass) - {StatementClass.READ})
    house.authority.grant(server.upstream(), guardrails=(named,))
    wire = await RawClient.enter(house)
    wire.send(a_call(964, b"\0\0\0\1"))  # lo_unlink
    kind, body = await wire.receive()
    assert kind == b"E"
    assert b"no-objects" in body
    assert await wire.until_ready() == [b"Z"]
    wire.close()
