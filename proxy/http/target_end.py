"""A connection to the target: one exchange after the other, read as strictly as a client's."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from proxy.authority import Upstream
from proxy.channel import Channel
from proxy.http import codec
from proxy.http.body import Chunked, Reader, Sized, UntilClose
from proxy.http.codec import Malformed, ResponseHead
from proxy.tls import target_context

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange
    from proxy.http.session import HttpSession
    from proxy.http.tunnel import Tunnel

CONNECT_SECONDS = 10.0
_INFORMED = 16
"""Interim answers to one request; a target that goes on with them is broken."""


class Unreachable(Exception):
    """The target cannot be reached. The text is for people and names neither address nor secret."""


class TargetEnd:
    """The target's side. `used` tells that it has served an exchange before, `full` that it does not take
    what is sent to it, `last` that it serves no exchange after this one.
    """

    def __init__(self, session: HttpSession) -> None:
        self._session = session
        self.channel = Channel(self)
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        self.used = False
        self.lost = False
        self.full = False
        self.last = False
        self._head: ResponseHead | None = None
        self._reader: Reader | None = None
        self._buffer = b""
        self._informed = 0

    # --- life

    @classmethod
    async def connect(cls, session: HttpSession) -> TargetEnd:
        """A new connection, in TLS where the target has it. Raises Unreachable."""
        end = cls(session)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await end._dial(session.admission.upstream)
        except BaseException as error:
            end.abort()
            if isinstance(error, ssl.SSLError):
                raise Unreachable(f"its TLS was not accepted ({_tls_reason(error)})") from error
            if isinstance(error, TimeoutError):
                raise Unreachable("it did not answer in time") from error
            if isinstance(error, OSError):
                raise Unreachable("it cannot be reached") from error
            raise
        return end

    async def _dial(self, upstream: Upstream) -> None:
        context = target_context(upstream.tls, upstream.ca)
        await asyncio.get_running_loop().create_connection(lambda: self.channel, upstream.host, upstream.port)
        if context is not None:
            await self.channel.secure(context, server=False, hostname=upstream.host)

    def abort(self) -> None:
        if not self.lost and hasattr(self.channel, "_raw"):
            self.channel.abort()
        self.lost = True

    def close(self) -> None:
        if not self.lost:
            self.channel.close()
        self.lost = True

    def begin(self, exchange: Exchange, head: bytes) -> None:
        """Send a request's head; what comes from now on is its answer."""
        self.exchange = exchange
        self._informed = 0
        self.channel.write(head)

    # --- proxy.channel.Receiver

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_target(data)
            return
        exchange = self.exchange
        if exchange is None:  # nobody asked: whatever it is, it is no answer
            self._session.forget(self)
            self.abort()
            return
        try:
            while data and self.exchange is exchange:
                data = (
                    self._body(exchange, data) if self._reader is not None else self._answer(exchange, data)
                )
        except Malformed as error:
            self.abort()
            exchange.target_failed(f"its answer is not HTTP ({error})")
            return
        if self.exchange is exchange:
            exchange.flush()

    def _answer(self, exchange: Exchange, data: bytes) -> bytes:
        """Take a head; what comes behind it."""
        if self._buffer:
            data = self._buffer + data
        end = codec.head_end(data)
        if end < 0:
            self._buffer = data
            return b""
        self._buffer = b""
        head = codec.read_response(data[:end])
        rest = data[end:]
        if head.status == 101:
            exchange.switched(head, rest)
            return b""
        if head.status < 200:
            self._informed += 1
            if self._informed > _INFORMED:
                raise Malformed("too many interim answers")
            exchange.informed(head)
            return rest
        self._head = head
        self._reader = _reader(head, exchange.request.method)
        exchange.answered(head)
        if self.exchange is exchange and (self._reader is None or head.length == 0):
            self._over(exchange, rest)
            return b""
        return rest

    def _body(self, exchange: Exchange, data: bytes) -> bytes:
        """Take a piece of the body; what comes behind it belongs to nobody."""
        assert self._reader is not None
        piece, rest = self._reader.feed(data)
        if piece:
            exchange.answer_body(piece)
        if rest is not None and self.exchange is exchange:
            self._over(exchange, rest)
        return b""

    def _over(self, exchange: Exchange, rest: bytes) -> None:
        """The answer is whole."""
        head, reader = self._head, self._reader
        assert head is not None
        again = head.keep_alive and not self.last and not rest and not isinstance(reader, UntilClose)
        self._head = self._reader = None
        self.exchange = None
        self.used = True
        whole = exchange.answer_over(reader.trailers if reader is not None else [])
        if again and whole and not self.lost:
            self._session.give_back(self)
        else:
            self.close()
            self._session.forget(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost = True
        self._session.forget(self)
        exchange, reader = self.exchange, self._reader
        if self.tunnel is not None:
            self.tunnel.target_gone()
        elif exchange is not None and reader is not None and reader.closed():
            self._over(exchange, b"")
        elif exchange is not None:
            self.exchange = None
            exchange.target_failed("it closed the connection before its answer was over")

    def pause_writing(self) -> None:
        self.full = True
        if self.tunnel is not None:
            self.tunnel.pause_client()
        elif self.exchange is not None:
            self.exchange.client.hold_body(True)

    def resume_writing(self) -> None:
        self.full = False
        if self.tunnel is not None:
            self.tunnel.resume_client()
        elif self.exchange is not None:
            self.exchange.client.hold_body(False)

    def hold(self, on: bool) -> None:
        """Have the target wait while the client does not take its answer, or go on."""
        if self.lost:
            return
        if on and self.channel.is_reading():
            self.channel.pause_reading()
        elif not on and not self.channel.is_reading():
            self.channel.resume_reading()


def _reader(head: ResponseHead, method: str) -> Reader | None:
    if not head.has_body(method):
        return None
    if head.chunked:
        return Chunked()
    return UntilClose() if head.length is None else Sized(head.length)


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.reason or "handshake failed"
