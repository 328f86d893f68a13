"""The Socket Mode side of the sandbox: tickets, sockets, envelopes, acknowledgements.

Source: docs.slack.dev/apis/events-api/using-socket-mode. Each envelope goes to one socket; at most ten
sockets an app.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from .errors import SlackError
from .state import Clock, Json

MAX_SOCKETS = 10
TICKET_SECONDS = 60


@dataclass(eq=False)
class Socket:
    web: WebSocket
    half_open: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sockets:
    def __init__(self, app_id: str, clock: Clock) -> None:
        self.app_id = app_id
        self.clock = clock
        self.open: list[Socket] = []
        self.refusing = False
        self._draining: list[Socket] = []
        self._tickets: dict[str, float] = {}
        self._waiting: dict[str, list[asyncio.Future[Any]]] = {}
        self._turn = itertools.count()

    def ticket(self) -> str:
        """A single-use ticket for one socket. Raises `too_many_websockets`."""
        if len(self.open) >= MAX_SOCKETS:
            raise SlackError("too_many_websockets")
        ticket = secrets.token_hex(16)
        self._tickets[ticket] = self.clock() + TICKET_SECONDS
        return ticket

    async def serve(self, web: WebSocket) -> None:
        """One socket, from its ticket to its end."""
        expires = self._tickets.pop(web.query_params.get("ticket", ""), None)
        if self.refusing or expires is None or self.clock() > expires:
            await web.close(code=4401)
            return
        await web.accept()
        socket = Socket(web)
        self.open.append(socket)
        try:
            await web.send_json(self._hello())
            while True:
                self._acknowledged(socket, await web.receive_json())
        except (WebSocketDisconnect, ValueError, KeyError, RuntimeError):
            pass
        finally:
            self._forget(socket)

    def _forget(self, socket: Socket) -> None:
        for sockets in (self.open, self._draining):
            if socket in sockets:
                sockets.remove(socket)

    def _hello(self) -> Json:
        return {
            "type": "hello",
            "num_connections": len(self.open),
            "debug_info": {"host": "sandbox", "build_number": 1, "approximate_connection_time": 18060},
            "connection_info": {"app_id": self.app_id},
        }

    def _acknowledged(self, socket: Socket, message: Json) -> None:
        if socket.half_open:
            return
        for future in self._waiting.get(message.get("envelope_id", ""), []):
            if not future.done():
                future.set_result(message.get("payload") or None)

    async def send(self, envelope: Json) -> Any:
        """Send on one of the sockets and wait for the acknowledgement; its payload.

        Raises ConnectionError where no socket is open. Waits for ever on a half-open one: bound it.
        """
        if not self.open:
            raise ConnectionError("no Socket Mode connection is open")
        socket = self.open[next(self._turn) % len(self.open)]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(envelope["envelope_id"], [])
        waiting.append(future)
        try:
            if not socket.half_open:
                async with socket.lock:
                    await socket.web.send_json(envelope)
            return await future
        except (RuntimeError, WebSocketDisconnect) as error:
            raise ConnectionError("the Socket Mode connection went away") from error
        finally:
            waiting.remove(future)
            if not waiting:
                self._waiting.pop(envelope["envelope_id"], None)

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Send every socket a disconnect frame. `warning`: it stays in use; `refresh_requested`: it gets
        nothing more, and is the app's to close; `link_disabled`: it is closed."""
        for socket in list(self.open):
            frame = {"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}}
            if reason != "warning":
                self.open.remove(socket)
                self._draining.append(socket)
            await socket.web.send_json(frame)
            if reason == "link_disabled":
                await self._close(socket)

    async def drop(self) -> None:
        """Close every socket without a word."""
        for socket in [*self.open, *self._draining]:
            await self._close(socket)

    async def _close(self, socket: Socket) -> None:
        self._forget(socket)
        try:
            await socket.web.close(code=1001)
        except RuntimeError:
            return

    def half_open(self) -> None:
        """From now on the open sockets look alive but carry nothing either way."""
        for socket in self.open:
            socket.half_open = True
