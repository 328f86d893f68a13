"""A connection, in clear or in TLS, that gives plain bytes to whoever receives at the moment.

TLS runs over memory buffers (ssl.SSLObject) right here: measured, it takes less time a message than the
event loop's own TLS transport, and bytes that were already read can go into the handshake, as a client that
begins with TLS directly needs.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

_RECORD = 16 * 1024
"""A TLS record holds at most this; a read gives one record, and allocates what it is asked for."""


_HANG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)  # Linux has a name for "will send no more"


class Receiver(Protocol):
    """Who gets a channel's bytes; the same calls as asyncio.Protocol makes."""

    def data_received(self, data: bytes, /) -> None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Channel(asyncio.Protocol):
    """One end of a connection. Writing never blocks; back-pressure comes as `pause_writing`."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._deliver = receiver.data_received
        self._raw: asyncio.Transport
        self._tls: ssl.SSLObject | None = None
        self._decrypt: Callable[[int], bytes] | None = None  # once the handshake is done
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._handshake: asyncio.Future[None] | None = None
        self.lost = False

    def give_to(self, receiver: Receiver) -> None:
        """Let `receiver` have what comes from now on."""
        self._receiver = receiver
        self._deliver = receiver.data_received

    @property
    def tls(self) -> ssl.SSLObject | None:
        return self._tls

    @property
    def peer(self) -> str:
        """The other end's address for people and records: `192.0.2.7:51234`."""
        name = self._raw.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "local"

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(ConnectionResetError("the peer left during the TLS handshake"))
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()

    def data_received(self, data: bytes) -> None:
        decrypt = self._decrypt
        if decrypt is None:
            self._early(data)
            return
        incoming = self._incoming
        incoming.write(data)
        size = len(data)
        try:
            plain = decrypt(size)
            # A record is longer than what is in it: a full read had the beginning of its record before.
            if incoming.pending or len(plain) == size:
                plain = self._read_on(decrypt, plain)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            self._raw.abort()
            return
        if self._outgoing.pending:  # the answer to a key update
            self._flush()
        if plain:
            self._deliver(plain)
        else:  # close_notify
            self._raw.close()

    def _early(self, data: bytes) -> None:
        """What comes in clear, or for the handshake."""
        if self._tls is None:
            self._deliver(data)
        else:
            self._incoming.write(data)
            self._shake(self._tls)

    def _read_on(self, decrypt: Callable[[int], bytes], first: bytes) -> bytes:
        """The rest of what came in: a read gives one TLS record at most."""
        parts = [first]
        with suppress(ssl.SSLWantReadError):
            while part := decrypt(_RECORD):
                parts.append(part)
            self._raw.close()  # close_notify
        return b"".join(parts)

    # --- TLS

    async def secure(
        self, context: ssl.SSLContext, *, server: bool, hostname: str | None = None, early: bytes = b""
    ) -> None:
        """Do the handshake; `early` came in already. Raises ssl.SSLError, ConnectionResetError."""
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=hostname
        )
        self._handshake = asyncio.get_running_loop().create_future()
        if early:
            self._incoming.write(early)
        self._shake(self._tls)
        await self._handshake

    def _shake(self, tls: ssl.SSLObject) -> None:
        shaken = self._handshake
        assert shaken is not None
        failure: ssl.SSLError | None = None
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            failure = error
        self._flush()  # a failed handshake has an alert to send
        self._handshake = None
        if shaken.done():
            return
        if failure is not None:
            shaken.set_exception(failure)
            return
        self._secured(tls)
        shaken.set_result(None)
        assert self._decrypt is not None
        try:
            plain = self._read_on(self._decrypt, b"")  # what came in behind the handshake
        except ssl.SSLError:
            self._raw.abort()
            return
        if plain:
            self._deliver(plain)

    def _secured(self, tls: ssl.SSLObject) -> None:
        """From now on bytes are read and written in TLS, by the shortest way."""
        # SSLObject only hands on to the object it wraps, at the price of a call in Python each time.
        inner = getattr(tls, "_sslobj", tls)
        encrypt, take, send = inner.write, self._outgoing.read, self._raw.write

        def write(data: bytes | memoryview) -> None:
            if not self.lost:
                encrypt(data)
                send(take())

        self.write = write  # type: ignore[method-assign]
        self._decrypt = inner.read

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    # --- writing and flow, as a transport has them

    def write(self, data: bytes | memoryview) -> None:
        if self._tls is None:  # nothing can be said in the middle of a handshake
            self._raw.write(data)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    @property
    def gone(self) -> bool:
        """Whether the peer has closed its side: nothing tells while reading is paused."""
        if self.lost:
            return True
        poll = select.poll()
        poll.register(self._raw.get_extra_info("socket").fileno(), _HANG_UP)
        return bool(poll.poll(0))

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def close(self) -> None:
        """Close when what was written has left."""
        if self._tls is not None and self._handshake is None and not self.lost:
            with suppress(ssl.SSLError):  # it would wait for the peer's close_notify, we do not
                self._tls.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._raw.abort()
