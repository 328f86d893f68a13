"""After an upgrade: bytes in both directions, read by a tap where somebody has to know what they say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.http.kinds import Blocked, Tap

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange
    from proxy.http.target_end import TargetEnd

_FLUSH = 0.3
"""Seconds that last words may take to leave."""


class Tunnel:
    """Joins a client and a target. Either one's end is the end of both."""

    def __init__(self, exchange: Exchange, target: TargetEnd, tap: Tap | None) -> None:
        self._exchange = exchange
        self._client = exchange.client
        self._target = target
        self._tap = tap
        self._over = False

    def from_client(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.sent += len(data)
        exchange.session_bytes(len(data), 0)
        try:
            passed = data if self._tap is None else self._tap.from_client(data)
        except Blocked as blocked:
            self.cut(str(blocked), refused=True)
            return
        if passed and not self._over:
            self._target.channel.write(passed)

    def from_target(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.received += len(data)
        exchange.session_bytes(0, len(data))
        try:
            passed = data if self._tap is None else self._tap.from_target(data)
        except Blocked as blocked:
            self.cut(str(blocked), refused=True)
            return
        if passed and not self._over:
            self._client.channel.write(passed)

    def client_gone(self) -> None:
        self._end("client", "the client closed the connection")
        self._target.close()

    def target_gone(self) -> None:
        self._end("target", "the service closed the connection")
        self._client.close()

    def cut(self, why: str, *, refused: bool = False) -> None:
        """Tell the client in its protocol, and end both sides."""
        if self._over:
            return
        if self._tap is not None and (words := self._tap.farewell(why)):
            self._client.channel.write(words)
        self._end("refused" if refused else "cut", why)
        self._target.abort()
        self._client.close()
        asyncio.get_running_loop().call_later(_FLUSH, self._client.abort)

    def _end(self, how: str, why: str) -> None:
        if self._over:
            return
        self._over = True
        if self._tap is not None:
            self._tap.over()
        self._exchange.tunnel_over(how, why)

    # --- flow

    def pause_client(self) -> None:
        self._client.hold_body(True)

    def resume_client(self) -> None:
        self._client.hold_body(False)

    def hold_target(self, on: bool) -> None:
        self._target.hold(on)
