"""Reading whole packets while two ends greet each other; afterwards the relay takes the transport over."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import cast

from proxy.postgres.codec import WireError

_INT = struct.Struct("!I")


class Lost(ConnectionError):
    """The peer went away."""


class Greeter(asyncio.Protocol):
    """One end of a connection before it is relayed. `made` is called once, when it is connected."""

    def __init__(self, made: Callable[[Greeter], None] | None = None) -> None:
        self._made = made
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport
        self.lost = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._made is not None:
            made, self._made = self._made, None
            made(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- for the coroutine that greets

    @property
    def tls(self) -> ssl.SSLObject | None:
        return cast("ssl.SSLObject | None", self.transport.get_extra_info("ssl_object"))

    @property
    def peer(self) -> str:
        """The other end's address for people and records: `192.0.2.7:51234`."""
        name = self.transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "local"

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def take(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Lost when the peer goes first."""
        while len(self._buffer) < size:
            if self.lost:
                raise Lost("the peer closed the connection")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def packet(self, limit: int) -> bytes:
        """An untagged packet behind its length. Raises WireError when it is longer than `limit` bytes."""
        length: int = _INT.unpack(await self.take(4))[0]
        if not 8 <= length <= limit:
            raise WireError(f"a packet of {length} bytes is not a PostgreSQL startup packet")
        return await self.take(length - 4)

    async def message(self, limit: int) -> tuple[bytes, bytes]:
        """A message as (type, body). Raises WireError when it is longer than `limit` bytes."""
        kind = await self.take(1)
        length: int = _INT.unpack(await self.take(4))[0]
        if not 4 <= length <= limit:
            raise WireError(f"a message of {length} bytes is out of bounds here")
        return kind, await self.take(length - 4)

    async def secure(self, context: ssl.SSLContext, *, server: bool, hostname: str | None = None) -> None:
        """Go on in TLS. Raises WireError when bytes came ahead of the handshake (CVE-2021-23222)."""
        if self._buffer:
            raise WireError("bytes came in clear ahead of the TLS handshake")
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(
            self.transport,
            self,
            context,
            server_side=server,
            server_hostname=hostname,
            ssl_handshake_timeout=10,
            ssl_shutdown_timeout=1,
        )
        if secured is None:
            raise Lost("the peer closed the connection during the TLS handshake")
        self.transport = secured

    def hand_over(self, to: asyncio.Protocol) -> bytes:
        """Let `to` receive from now on; returns the bytes that came in already. Raises Lost."""
        if self.lost:
            raise Lost("the peer closed the connection")
        self.transport.set_protocol(to)
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest
