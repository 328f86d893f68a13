"""Reading whole packets while two ends greet each other; afterwards the relay takes the channel over."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable

from proxy.channel import Channel, Receiver
from proxy.postgres.codec import WireError

_INT = struct.Struct("!I")
_ROOM = 64 << 10
"""Bytes beyond those that are waited for that a peer may send ahead; more waits in its own machine."""


class Lost(ConnectionError):
    """The peer went away."""


class Greeter(Channel):
    """One end of a connection before it is relayed. `made` is called once, when it is connected."""

    def __init__(self, made: Callable[[Greeter], None] | None = None) -> None:
        self._pending = _Pending(self.pause_reading)
        super().__init__(self._pending)
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._made is not None:
            self._made(self)

    async def take(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Lost when the peer goes first."""
        pending = self._pending
        while len(pending.bytes) < size:
            if self.lost:
                raise Lost("the peer closed the connection")
            self._expect(size)
            await pending.more()
        taken = bytes(pending.bytes[:size])
        del pending.bytes[:size]
        return taken

    async def begins_with_tls(self) -> bool:
        """Whether the peer's first byte is that of a TLS handshake (and the protocol comes inside)."""
        while not self._pending.bytes:
            if self.lost:
                raise Lost("the peer closed the connection")
            await self._pending.more()
        return self._pending.bytes[0] == 0x16

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

    async def encrypt(
        self, context: ssl.SSLContext, *, server: bool, hostname: str | None = None, direct: bool = False
    ) -> None:
        """Go on in TLS. `direct`: what came in already belongs to the handshake.

        Otherwise raises WireError when bytes came ahead of it (CVE-2021-23222).
        """
        early = bytes(self._pending.bytes)
        if early and not direct:
            raise WireError("bytes came in clear ahead of the TLS handshake")
        self._pending.bytes.clear()
        self._expect(0)
        async with asyncio.timeout(10):
            await self.secure(context, server=server, hostname=hostname, early=early)

    def hand_over(self, to: Receiver) -> bytes:
        """Let `to` receive from now on; returns the bytes that came in already. Raises Lost."""
        if self.lost:
            raise Lost("the peer closed the connection")
        self.give_to(to)
        rest = bytes(self._pending.bytes)
        self._pending.bytes.clear()
        self._expect(0)
        return rest

    def _expect(self, size: int) -> None:
        """Read on, with room for `size` bytes."""
        self._pending.room = size + _ROOM
        self.resume_reading()


class _Pending:
    """What came in and was not taken yet. Beyond its `room` it asks for a `pause`."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self.bytes = bytearray()
        self.room = _ROOM
        self._pause = pause
        self._waiter: asyncio.Future[None] | None = None

    async def more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def data_received(self, data: bytes, /) -> None:
        self.bytes += data
        if len(self.bytes) > self.room:
            self._pause()
        self._wake()

    def connection_lost(self, exc: Exception | None, /) -> None:
        self._wake()

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...
