"""What a kind of service behind HTTP brings to the gate: how its requests are judged and its answers changed.

The engine (client_end, exchange, target_end, tunnel) moves messages and knows none of it. A kind is made for
each session by `kind_of` in session.py, by the terms of its grant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from proxy.http import pages, place
from proxy.http.codec import Header, RequestHead, ResponseHead
from proxy.http.pages import Said
from proxy.sql.guardrails import Allow, Hold, Judgement, Refuse

if TYPE_CHECKING:
    from proxy.http.session import HttpSession

__all__ = [
    "Allow",
    "Blocked",
    "Hold",
    "Judgement",
    "Kind",
    "NeedBody",
    "Refuse",
    "Request",
    "Tap",
    "Transform",
]


class Blocked(Exception):
    """Something that may not pass, found on the way. The text is for people."""


@dataclass(frozen=True, slots=True)
class NeedBody:
    """The judgement depends on the body: read it whole, up to `limit` bytes, and ask again."""

    limit: int = 1 << 20


@dataclass(slots=True)
class Request:
    """One request under a session. `body` is there once it was read whole; `browser` tells that a person
    looks at the answer. `note` is what a kind says of it for the recording, in place of method and target;
    `verdict` is its class.
    """

    head: RequestHead
    session: HttpSession
    browser: bool = False
    body: bytes | None = None
    note: str = ""
    verdict: str = ""
    state: object = field(default=None, repr=False)
    """A kind's own."""

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def place(self) -> place.Place:
        return place.read(self.head.target)

    @property
    def line(self) -> str:
        """Method and target, as they came."""
        return self.note or f"{self.head.method} {self.head.target.decode('ascii')}"


class Transform(Protocol):
    """Changes a body as it passes. Raises Blocked."""

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Tap(Protocol):
    """Reads, and may change, what passes after an upgrade. Raises Blocked, which ends the connection."""

    def from_client(self, data: bytes) -> bytes: ...

    def from_target(self, data: bytes) -> bytes: ...

    def farewell(self, why: str) -> bytes:
        """What the client is told, in its protocol, when the gate ends the connection."""
        ...

    def over(self) -> None:
        """The connection has ended; called once."""
        ...


class Kind:
    """A service about which nothing is known: everything passes. Kinds override what they know better."""

    upgrades: frozenset[bytes] = frozenset()
    """The protocols (in lower case) that a connection may change to. An Upgrade to any other is left out of
    the request, as RFC 9110, section 7.8, allows.
    """

    def __init__(self, session: HttpSession) -> None:
        self.session = session

    def judge(self, request: Request) -> Judgement | NeedBody:
        """What becomes of a request. Called again, with its body, after NeedBody."""
        return Allow()

    async def ready(self, request: Request) -> None:
        """Called once nothing else stands in the way of a request that was judged slowly. Raises Blocked."""

    def outgoing(self, request: Request, headers: list[Header]) -> list[Header]:
        """The fields of the request as they go on; the gate's own, host and framing are put to them after."""
        return headers

    def incoming(self, request: Request, head: ResponseHead) -> Transform | None:
        """What changes the answer's body; None lets it pass as it is. May change `head.headers`. Raises
        Blocked.
        """
        return None

    def tap(self, request: Request, head: ResponseHead) -> Tap | None:
        """What reads a connection after its upgrade; None lets bytes pass unread. Raises Blocked."""
        return None

    async def card(self, request: Request) -> str:
        """The request as text, all of it, for those who decide about it. The approval is bound to this text.
        Raises Blocked where it cannot be shown.
        """
        raise Blocked("nobody can be asked about requests to this kind of service")

    def say(self, request: Request, said: Said) -> tuple[bytes, bytes]:
        """What the gate itself answers with, as media type and body."""
        return pages.body(said, html=request.browser)
