"""A client's connection: TLS, one request after the other, and no byte that is not expected."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from proxy.channel import Channel
from proxy.http import codec, pages
from proxy.http.body import Chunked, Reader, Sized
from proxy.http.codec import Malformed
from proxy.http.exchange import Exchange
from proxy.http.pages import Said

if TYPE_CHECKING:
    from proxy.http.door import HttpDoor
    from proxy.http.session import HttpSession
    from proxy.http.tunnel import Tunnel

_AHEAD = 64 * 1024
"""Bytes that a client may send ahead of their turn; more waits in its own machine."""
_LINGER = 1.0
"""Seconds in which a client that still sends can take in why it is not listened to."""
_DISCARD = 4 << 20
_FLUSH = 0.7
"""Seconds that last bytes may take to leave."""


class _Accepted(Channel):
    """The channel of a connection that has come in."""

    def __init__(self, end: ClientEnd) -> None:
        super().__init__(end)
        self._end = end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._end.connected()


class ClientEnd:
    """The client's side. `seen` is the loop's time of its last byte, `address` where it comes from."""

    def __init__(self, door: HttpDoor) -> None:
        self.door = door
        self.channel: Channel = _Accepted(self)
        self.sessions: set[HttpSession] = set()
        self.resource = ""
        self.address = b""
        self.peer = ""
        self.close_after = False
        self.seen = 0.0
        self.exchange: Exchange | None = None
        self._reader: Reader | None = None
        self._reading = False
        self._ahead = b""
        self._tunnel: Tunnel | None = None
        self._closing = False
        self._discarded = 0
        self._body_held = False
        self._full = False
        self._early: bytes | None = b""  # what came before the handshake began

    # --- life

    def connected(self) -> None:
        self.peer = self.channel.peer
        self.address = self.peer.rpartition(":")[0].strip("[]").encode()
        self.seen = self.door.now()
        if self.door.come(self):
            self.door.gate.spawn(self._secure())
        else:
            self.abort()

    async def _secure(self) -> None:
        try:
            async with asyncio.timeout(self.door.gate.settings.greeting_timeout):
                early, self._early = self._early, None
                await self.channel.secure(self.door.settings.tls, server=True, early=early or b"")
        except (ssl.SSLError, OSError, TimeoutError):
            self.abort()

    @property
    def server_name(self) -> str:
        """The name that the client asked for in TLS, in lower case; empty where it asked for none."""
        return getattr(self.channel.tls, "portcullis_name", "")

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self.door.gone(self)
        for session in self.sessions:
            session.clients.discard(self)
        exchange = self.exchange
        if exchange is not None:
            exchange.client_gone()

    def left(self, session: HttpSession) -> None:
        """A session of this connection's has ended."""
        self.sessions.discard(session)
        if self.exchange is None and not self.channel.lost:
            if not self._closing:
                self.close()
            asyncio.get_running_loop().call_later(_FLUSH, self.channel.abort)

    def close(self) -> None:
        """Close when what was written has left."""
        self._closing = True
        self.channel.close()

    def abort(self) -> None:
        self._closing = True
        self.channel.abort()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self.channel.write(data)

    # --- proxy.channel.Receiver

    def data_received(self, data: bytes) -> None:
        self.seen = self.door.now()
        if self._early is not None:
            self._early += data
        elif self._tunnel is not None:
            self._tunnel.from_client(data)
        elif self._closing:
            self._discarded += len(data)
            if self._discarded > _DISCARD:
                self.channel.abort()
        elif self._reading:
            self._body(data)
        else:
            self._ahead = self._ahead + data if self._ahead else data
            if self.exchange is None:
                self._next()
            elif len(self._ahead) > _AHEAD:
                self._flow()

    def _next(self) -> None:
        """Begin the next request, if its head is there and the client takes its answers."""
        if self._full:
            return
        try:
            end = codec.head_end(self._ahead)
            if end < 0:
                return
            head = codec.read_request(self._ahead[:end])
        except Malformed as error:
            self._malformed(error)
            return
        self._ahead = self._ahead[end:]
        self._reader = Chunked() if head.chunked else Sized(head.length) if head.length else None
        self.exchange = Exchange(self, head)
        self.exchange.begin()

    def _malformed(self, error: Malformed) -> None:
        """What cannot be read is not answered in its own terms: nothing behind it can be read either."""
        said = Said(error.status, "malformed", f"The request was not read: {error}.")
        kind, text = pages.body(said, html=False)
        self.write(pages.answer(said, kind, text, close=True, method="GET"))
        self._linger()

    # --- the body of the request

    def start_body(self) -> None:
        """The exchange takes the body from now on."""
        if self._reader is None or self._reading:
            return
        self._reading = True
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self._body(ahead)
        self._flow()

    def _body(self, data: bytes) -> None:
        exchange, reader = self.exchange, self._reader
        assert exchange is not None
        assert reader is not None
        try:
            piece, rest = reader.feed(data)
        except Malformed as error:
            said = Said(400, "malformed", f"The body of the request was not read: {error}.")
            exchange.body_malformed(said)
            return
        if piece:
            exchange.request_body(piece)
        if rest is not None and self.exchange is exchange:
            self._reading, self._reader = False, None
            self._ahead = rest
            exchange.request_over(reader.trailers)

    def start_tunnel(self, tunnel: Tunnel) -> None:
        """What comes from now on is of another protocol."""
        self._tunnel = tunnel
        ahead, self._ahead = self._ahead, b""
        if ahead:
            tunnel.from_client(ahead)
        self._flow()

    # --- the end of an exchange

    def exchange_over(self, *, abort: bool, unread: bool = False) -> None:
        """Take the next request, or end the connection: at once, or when the client has had its answer."""
        self.exchange = None
        self._body_held = False
        if abort:
            self.abort()
        elif self._closing:
            return
        elif self.close_after:
            if unread or self._reading or self._reader is not None:
                self._linger()
            else:
                self.close()
        else:
            self._flow()
            if self._ahead:
                asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.exchange is None and not self._closing and self._ahead:
            self._next()

    def _linger(self) -> None:
        """Close in a moment: a client that is still sending would lose the answer to a reset."""
        if self._closing:
            return
        self._closing = True
        self._ahead = b""
        self._flow()
        asyncio.get_running_loop().call_later(_LINGER, self.close)

    # --- flow

    def pause_writing(self) -> None:
        self._full = True
        if self._tunnel is not None:
            self._tunnel.hold_target(True)
        elif self.exchange is not None and self.exchange.target is not None:
            self.exchange.target.hold(True)

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()
        if self._tunnel is not None:
            self._tunnel.hold_target(False)
        elif self.exchange is not None and self.exchange.target is not None:
            self.exchange.target.hold(False)

    def hold_body(self, on: bool) -> None:
        """Have the client wait while the target does not take what it sends, or go on."""
        self._body_held = on
        self._flow()

    def _flow(self) -> None:
        if self.channel.lost:
            return
        waits = not (self._reading or self._closing or self._tunnel) and len(self._ahead) > _AHEAD
        stop = waits or (self._body_held and not self._closing)
        if stop and self.channel.is_reading():
            self.channel.pause_reading()
        elif not stop and not self.channel.is_reading():
            self.channel.resume_reading()
