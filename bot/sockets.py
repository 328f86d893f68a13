"""Socket Mode: two connections, so that one stays while Slack recycles the other, and a watchdog over both.

The SDK reconnects by itself in most cases; the watchdog builds a connection anew that has not come back.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import TROUBLE, error_of

log = structlog.get_logger(__name__)

CONNECTIONS = 2
SILENT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
"""The SDK tries a spent ticket again and again, so that what has not come up by then is made anew."""
CLOSE_SECONDS = 5.0
"""Closing waits for the other side; one that is gone must not keep the bot from stopping."""


class Sockets:
    """`run` keeps the connections up until it is cancelled. `connected` says how many are."""

    def __init__(
        self,
        app: AsyncApp,
        app_token: str,
        client: AsyncWebClient,
        *,
        check_seconds: float = 5.0,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._app = app
        self._token = app_token
        self._client = client
        self._check_seconds = check_seconds
        self._silent_seconds = silent_seconds
        self._handlers: list[AsyncSocketModeHandler | None] = [None] * CONNECTIONS
        self._well: list[float] = [0.0] * CONNECTIONS
        self.connected = 0

    async def run(self) -> None:
        try:
            while True:
                await asyncio.gather(*(self._keep(index) for index in range(CONNECTIONS)))
                self.connected = sum([await self._is_up(handler) for handler in self._handlers])
                await asyncio.sleep(self._check_seconds)
        finally:
            for index in range(CONNECTIONS):
                await self._drop(index)
            self.connected = 0

    async def _keep(self, index: int) -> None:
        """Leave a living connection alone; make one anew that was never up or is down for too long."""
        now = time.monotonic()
        if await self._is_up(self._handlers[index]):
            self._well[index] = now
            return
        if self._handlers[index] is not None and now - self._well[index] < self._silent_seconds:
            return
        await self._drop(index)
        handler = AsyncSocketModeHandler(self._app, self._token, web_client=self._client)
        self._handlers[index] = handler
        try:
            await asyncio.wait_for(handler.client.connect(), timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
            self._well[index] = time.monotonic()
        except TROUBLE as trouble:
            log.warning("socket_not_connected", connection=index, problem=error_of(trouble))
            await self._drop(index)

    async def _is_up(self, handler: AsyncSocketModeHandler | None) -> bool:
        if handler is None:
            return False
        heard = handler.client.last_ping_pong_time
        fresh = heard is None or time.time() - heard < self._silent_seconds
        return fresh and bool(await handler.client.is_connected())

    async def _drop(self, index: int) -> None:
        handler, self._handlers[index] = self._handlers[index], None
        if handler is not None:
            closing = handler.client.close()  # type: ignore[no-untyped-call]
            with suppress(*TROUBLE):
                await asyncio.wait_for(closing, timeout=CLOSE_SECONDS)
