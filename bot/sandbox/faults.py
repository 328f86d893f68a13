"""Faults on demand, for tests and for the page's fault endpoint.

Each is armed for a number of times and then gone. On the Web API: `rate_limit`, `fail` (HTTP 5xx), `error`
(a Slack error code), `slow`, `lose_reply` (done, but the answer never arrives). On deliveries to the app:
`duplicate`, `late`, `hold`/`release` (reorder), `bad_signature`, `old_timestamp`, `lose_ack`. `away` takes
the whole workspace down (503, sockets closed) until it is set back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Fault:
    """One armed fault. `on` is a Web API method or a delivery kind, or `*` for all of them."""

    name: str
    on: str
    times: int
    value: Any = None


API_FAULTS = {
    "rate_limit": "seconds of Retry-After (default 1)",
    "fail": "the HTTP status (default 500)",
    "error": "the Slack error code",
    "slow": "seconds before the call is handled",
    "lose_reply": "the call is done, its answer is lost",
}
DELIVERY_FAULTS = {
    "duplicate": "how many more times the same bytes are sent (default 1)",
    "late": "seconds the delivery waits before it is sent",
    "hold": "kept back until `release`",
    "bad_signature": "signed with another secret",
    "old_timestamp": "seconds by which the signed timestamp is in the past (default 600)",
    "lose_ack": "delivered, but Slack never hears the acknowledgement",
}


class Faults:
    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self.away = False
        self.held: list[asyncio.Future[None]] = []
        self.on_away: Callable[[], None] = lambda: None

    def arm(self, name: str, on: str = "*", times: int = 1, value: Any = None) -> None:
        """Arm a fault by name. ValueError where there is no such fault."""
        if name not in API_FAULTS and name not in DELIVERY_FAULTS:
            raise ValueError(f"no fault {name!r}; there are {', '.join([*API_FAULTS, *DELIVERY_FAULTS])}")
        self.armed.append(Fault(name, on, times, value))

    def clear(self) -> None:
        self.armed.clear()
        self.away = False

    def take(self, names: dict[str, str], on: str) -> list[Fault]:
        """The armed faults that strike now; each is spent by one."""
        struck = [f for f in self.armed if f.name in names and f.on in ("*", on) and f.times > 0]
        for fault in struck:
            fault.times -= 1
        self.armed = [f for f in self.armed if f.times > 0]
        return struck

    # -- Web API -------------------------------------------------------------------------------------------

    def rate_limit(self, method: str = "*", times: int = 1, retry_after: int = 1) -> None:
        self.arm("rate_limit", method, times, retry_after)

    def fail(self, method: str = "*", times: int = 1, status: int = 500) -> None:
        self.arm("fail", method, times, status)

    def error(self, method: str, code: str, times: int = 1) -> None:
        self.arm("error", method, times, code)

    def slow(self, method: str = "*", seconds: float = 1.0, times: int = 1) -> None:
        self.arm("slow", method, times, seconds)

    def lose_reply(self, method: str = "chat.postMessage", times: int = 1) -> None:
        self.arm("lose_reply", method, times)

    # -- deliveries ----------------------------------------------------------------------------------------

    def duplicate(self, kind: str = "*", copies: int = 1, times: int = 1) -> None:
        self.arm("duplicate", kind, times, copies)

    def late(self, kind: str = "*", seconds: float = 1.0, times: int = 1) -> None:
        self.arm("late", kind, times, seconds)

    def hold(self, kind: str = "*", times: int = 1) -> None:
        self.arm("hold", kind, times)

    def release(self, *, reverse: bool = False) -> int:
        """Let the held deliveries go, in order or last first; how many there were."""
        waiting, self.held = self.held, []
        for future in reversed(waiting) if reverse else waiting:
            if not future.done():
                future.set_result(None)
        return len(waiting)

    def bad_signature(self, kind: str = "*", times: int = 1) -> None:
        self.arm("bad_signature", kind, times)

    def old_timestamp(self, kind: str = "*", seconds: int = 600, times: int = 1) -> None:
        self.arm("old_timestamp", kind, times, seconds)

    def lose_ack(self, kind: str = "*", times: int = 1) -> None:
        self.arm("lose_ack", kind, times)

    # -- the whole workspace -------------------------------------------------------------------------------

    def go_away(self) -> None:
        self.away = True
        self.on_away()

    def come_back(self) -> None:
        self.away = False
