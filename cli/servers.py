"""The HTTP servers of a house: the plain one, and the door for gates on other machines, by mutual TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.clock import Clock
from broker.gates.authority import LIFETIME, key_pem, new_key
from broker.gates.gates import Gates

REFRESH_EVERY = 30.0
"""Seconds between looks at which authorities there are."""

log = structlog.get_logger(__name__)


class Server:
    """uvicorn over sockets that are bound already, without its own handling of signals."""

    def __init__(self, app: ASGIApp, listeners: list[socket.socket], **other: Any) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            **other,
        )
        self._server = _Quiet(config)
        self._listeners = listeners
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(self._listeners), name="http")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("The HTTP server ended as it began.")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatesDoor:
    """Serve `app` to gates that show a certificate of a trusted authority, and to nobody else.

    A handshake takes the authorities of its moment; that a certificate is still its gate's newest is checked
    at every question (broker/api/gate.py).
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, gates: Gates, clock: Clock) -> None:
        self._gates = gates
        self._clock = clock
        self._context = _bare()
        self._made_for: object = None
        self._key = new_key()
        self._server = Server(
            app, [listener], http=_Showing, ssl_context_factory=lambda _config, _default: self._first()
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.refresh()
        await self._server.start()
        self._task = asyncio.create_task(self._refresh(), name="gates' door")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._server.stop()

    async def refresh(self) -> None:
        """Take up what has changed among the authorities, and renew our own certificate in time."""
        await self._gates.refresh()
        now, trust = self._clock.now(), self._gates.trust
        age = int(now.timestamp() / (LIFETIME.total_seconds() / 2))
        made_for = (trust.bundle(now), trust.serving(now).id, age)
        if made_for != self._made_for:
            context = _bare()
            context.load_verify_locations(cadata=trust.bundle(now))
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # made with mode 0600
                file.write((trust.serving(now).sign_door(self._key, now) + key_pem(self._key)).encode())
                file.flush()
                context.load_cert_chain(Path(file.name))
            self._context, self._made_for = context, made_for

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            try:
                await self.refresh()
            except Exception as error:  # whatever the database says: what is trusted stays until it answers
                log.error("the gates' authorities cannot be read", problem=type(error).__name__)

    def _first(self) -> ssl.SSLContext:
        """What the server listens with: it trusts nobody, and hands each handshake to the context of now."""
        context = _bare()

        def of_now(handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _own: ssl.SSLContext) -> None:
            handshake.context = self._context

        context.sni_callback = of_now
        return context


def _bare() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # every connection shows its certificate anew
    return context


class _Showing(H11Protocol):
    """Tells the application its client's certificate, as ASGI's TLS extension does."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        chain = [ssl.DER_cert_to_PEM_cert(shown)] if shown else []
        app = self.app

        async def showing(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})["tls"] = {"client_cert_chain": chain}
            await app(scope, receive, send)

        self.app = showing
