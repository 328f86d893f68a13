"""What a client without a login can make the gate hold: a bounded number of greetings of bounded size."""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import TYPE_CHECKING

from proxy.postgres import codec
from tests.proxy.wire_client import last_word

if TYPE_CHECKING:
    import pytest

    from tests.proxy.conftest import House, OpenHouse

MEGABYTE = b"x" * (1 << 20)
KERNELS = 24 << 20
"""What the sockets of both ends may hold, generously."""


async def greeted(house: House) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client in TLS that is asked for its password."""
    context = ssl.create_default_context(cafile=str(house.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    writer.write(codec.untagged(codec.SSL_REQUEST))
    assert await reader.readexactly(1) == b"S"
    await writer.start_tls(context, server_hostname="127.0.0.1")
    writer.write(codec.startup({"user": "ada", "database": "prod-db"}))
    return reader, writer


async def test_a_client_that_talks_on_while_the_broker_thinks_is_not_listened_to(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinking = asyncio.Event()

    async def admit(_knock: object) -> object:
        thinking.set()
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(house.authority, "admit", admit)
    reader, writer = await greeted(house)
    writer.write(await last_word(reader, writer))
    await thinking.wait()
    sent = 0
    try:
        async with asyncio.timeout(1.5):
            while sent < 4 * KERNELS:
                writer.write(MEGABYTE)
                await writer.drain()
                sent += len(MEGABYTE)
    except TimeoutError:
        pass
    writer.transport.abort()
    assert sent < KERNELS
    assert reader.at_eof() is False


async def test_what_a_client_pipelines_behind_its_password_is_not_lost(house: House) -> None:
    """A driver may send its first statement at once, and a long one."""
    reader, writer = await greeted(house)
    text = b"select length('" + b"x" * 300_000 + b"')"
    writer.write(await last_word(reader, writer) + codec.query(text))
    said = bytearray()
    async with asyncio.timeout(10):
        while b"SELECT 1" not in said:
            said += await reader.read(65536)
    assert b"300000" in said
    writer.transport.abort()


async def test_half_open_greetings_are_bounded_and_end_by_themselves(open_house: OpenHouse) -> None:
    house = await open_house(max_greetings=3, greeting_timeout=0.5)
    idle = [await asyncio.open_connection("127.0.0.1", house.gate.port) for _ in range(3)]
    reader, _writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
    assert await closed(reader), "one too many is closed at once"
    for waits, _ in idle:
        assert await closed(waits), "who says nothing is closed in time"
    reader, writer = await greeted(house)
    assert await last_word(reader, writer)
    writer.transport.abort()


async def test_a_client_that_drips_its_greeting_is_closed_in_time(open_house: OpenHouse) -> None:
    house = await open_house(greeting_timeout=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)

    async def drip() -> None:
        for byte in struct.pack("!II", 5000, codec.PROTOCOL_3_0) + b"user\0" * 900:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(3):
        assert await closed(reader)
    dripping.cancel()


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            return await reader.read() == b""
    except ConnectionError:
        return True
