"""Clients for the gate's tests: one that sends what it likes, and asyncpg."""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import TYPE_CHECKING, Any

import asyncpg
from scramp import ScramClient

from proxy.postgres import codec

if TYPE_CHECKING:
    from tests.proxy.conftest import House


async def last_word(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str = "ada-token-1"
) -> bytes:
    """Prove the token by SCRAM-SHA-256, up to the client's last message, which is returned and not sent."""
    kind, offer = await message(reader)
    assert (kind, offer[:4]) == (b"R", b"\0\0\0\x0a")
    client = ScramClient(["SCRAM-SHA-256"], "ada", token)
    first = client.get_client_first().encode()
    writer.write(codec.message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
    client.set_server_first((await message(reader))[1][4:].decode())
    return codec.message(b"p", client.get_client_final().encode())


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: its type and body."""
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


class RawClient:
    """A client that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def enter(cls, house: House, **parameters: str) -> RawClient:
        """Log in as Ada, in a protocol to come so that the gate has to say that it speaks 3.2."""
        reader, writer = await asyncio.open_connection("127.0.0.1", house.gate.port)
        writer.write(codec.untagged(codec.SSL_REQUEST))
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(ssl.create_default_context(cafile=str(house.ca)), server_hostname="127.0.0.1")
        it = cls(reader, writer)
        it.send(codec.startup({"user": "ada", "database": "prod-db", **parameters}, 196709))
        assert await it.receive() == (b"v", struct.pack("!II", codec.PROTOCOL_3_2, 0))
        it.send(await last_word(reader, writer))
        while (await it.receive())[0] != b"Z":
            pass
        return it

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> tuple[bytes, bytes]:
        """The next message. Raises asyncio.IncompleteReadError when the connection ends."""
        async with asyncio.timeout(10):
            head = await self._reader.readexactly(5)
            return head[:1], await self._reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)

    async def until_ready(self) -> list[bytes]:
        """The types of the messages up to ReadyForQuery."""
        kinds = []
        while not kinds or kinds[-1] != b"Z":
            kinds.append((await self.receive())[0])
        return kinds

    async def until_cut(self) -> dict[bytes, bytes]:
        """The fields of the last error before the connection ends."""
        fields: dict[bytes, bytes] = {}
        try:
            while True:
                kind, body = await self.receive()
                if kind == b"E":
                    fields = codec.read_report(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return fields

    def close(self) -> None:
        self._writer.close()

    def vanish(self) -> None:
        """Go without sending what waits to be sent."""
        self._writer.transport.abort()


async def connect_asyncpg(house: House) -> Any:
    return await asyncpg.connect(
        host="127.0.0.1",
        port=house.gate.port,
        user="ada",
        password="ada-token-1",
        database="prod-db",
        ssl=ssl.create_default_context(cafile=str(house.ca)),
    )
