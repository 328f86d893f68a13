"""A target that is not what it should be: it learns nothing, holds nothing up and gets no statements."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from proxy import tls
from proxy.authority import Upstream
from proxy.postgres import codec
from workflows.model import Mask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.proxy.conftest import House, OpenHouse

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WELCOME = codec.message(b"R", struct.pack("!I", 0))
KEY = codec.message(b"K", struct.pack("!I", 7) + b"key!")
READY = codec.message(b"Z", b"I")


@asynccontextmanager
async def rogue(identity: tls.Identity, talk: Talk) -> AsyncIterator[int]:
    """A server that takes TLS and a startup packet as PostgreSQL does, and then says what it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            first = await packet(reader)
            if first == struct.pack("!I", codec.SSL_REQUEST):
                writer.write(b"S")
                await writer.start_tls(tls.server_context(identity.certificate, identity.key))
                await packet(reader)
            await talk(reader, writer)
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def packet(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return await reader.readexactly(length - 4)


async def turned_away(house: House) -> str:
    """What the client hears; nothing of the session is left at the gate."""
    with pytest.raises(psycopg.OperationalError) as caught:
        async with asyncio.timeout(8):
            await house.connect(connect_timeout="6")
    assert (await house.closed())[0].reason == "error"
    assert house.gate.registry.all() == ()
    return str(caught.value)


def upstream(port: int, identity: tls.Identity, mode: str) -> Upstream:
    return Upstream("127.0.0.1", port, "shop", "minted", "a minted secret", mode, identity.ca.read_text())


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_a_target_that_proves_itself_by_nothing_is_not_entered(
    open_house: OpenHouse, gate_identity: tls.Identity, mode: str
) -> None:
    heard = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WELCOME + KEY + READY)
        heard.extend(await reader.read())

    house = await open_house()
    async with rogue(gate_identity, talk) as port:
        house.authority.grant(upstream(port, gate_identity, mode))
        assert "proved itself neither by TLS nor by SCRAM" in await turned_away(house)
    assert heard == b""


@pytest.mark.parametrize("method", [3, 5])
async def test_no_password_in_clear_and_no_md5_for_a_target_of_unproved_identity(
    open_house: OpenHouse, gate_identity: tls.Identity, method: int
) -> None:
    heard = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(codec.message(b"R", struct.pack("!I", method) + b"salt"))
        heard.extend(await reader.read())

    house = await open_house()
    async with rogue(gate_identity, talk) as port:
        house.authority.grant(upstream(port, gate_identity, "require"))
        assert "could not enter the target" in await turned_away(house)
    assert heard == b""


@pytest.mark.parametrize("iterations", ["100001", "2000000000", "99999999999999999999", "0", "-1", "", "x"])
async def test_a_scram_without_end_holds_nobody_up(
    open_house: OpenHouse, gate_identity: tls.Identity, iterations: str
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(codec.message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        assert kind == b"p"
        nonce = (await reader.readexactly(length - 4)).rpartition(b"r=")[2]
        first = b"r=" + nonce + b"more,s=c2FsdHNhbHRzYWx0c2FsdA==,i=" + iterations.encode()
        writer.write(codec.message(b"R", struct.pack("!I", 11) + first))

    house = await open_house()
    async with rogue(gate_identity, talk) as port:
        house.authority.grant(upstream(port, gate_identity, "verify-full"))
        assert "iterations in SCRAM" in await turned_away(house)


ODD = {
    "a ready without a status": WELCOME + KEY + codec.message(b"Z", b""),
    "a key cut short": WELCOME + codec.message(b"K", b"\0"),
    "a setting without an end": WELCOME + codec.message(b"S", b"name"),
    "a setting that is no text": WELCOME + codec.message(b"S", b"\xff\xfe\0\xff\0"),
    "an error without fields": codec.message(b"E", b""),
    "an error that is no text": codec.message(b"E", b"M\xff\xff\xff\0\0"),
    "rows in the greeting": WELCOME + codec.message(b"D", b"\0\1\0\0\0\1x") + codec.message(b"T", b""),
    "an authentication cut short": codec.message(b"R", b"\0"),
    "a mechanism that is no text": codec.message(b"R", struct.pack("!I", 10) + b"\xff\xff\0\0"),
    "a length of nothing": b"R\0\0\0\0",
    "a message beyond all bounds": b"R\x7f\xff\xff\xff",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "notices without end": WELCOME + codec.message(b"N", b"Mlook\0" + b"x" * 60_000 + b"\0\0") * 40,
}


@pytest.mark.parametrize("said", ODD)
async def test_a_target_that_breaks_the_protocol_leaves_no_session_behind(
    open_house: OpenHouse, gate_identity: tls.Identity, said: str
) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ODD[said])
        if said == "rows in the greeting":
            writer.close()

    house = await open_house()
    async with rogue(gate_identity, talk) as port:
        house.authority.grant(upstream(port, gate_identity, "verify-full"))
        assert "could not enter the target" in await turned_away(house)


@pytest.mark.parametrize("answer", [codec.message(b"D", b"\0\0"), codec.message(b"Z", b""), b"Z\0\0\0\1"])
async def test_a_target_that_answers_the_gates_own_question_by_nonsense_is_left(
    open_house: OpenHouse, gate_identity: tls.Identity, answer: bytes
) -> None:
    """A guarded session asks for the catalog before anything else."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        utf8 = codec.message(b"S", b"client_encoding\0UTF8\0")
        writer.write(WELCOME + utf8 + KEY + READY)
        await reader.read(1)
        writer.write(answer)

    house = await open_house()
    async with rogue(gate_identity, talk) as port:
        house.authority.grant(
            upstream(port, gate_identity, "verify-full"), masks=(Mask("public.users", "email", "full"),)
        )
        assert "catalog" in await turned_away(house)
