"""A request that waits until people have decided about it.

A program waits on its connection; one that says `Prefer: respond-async` (RFC 7240), and a browser, get 202
and come again: a browser's page does so by itself. What goes on is the request that was shown, once.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from proxy.authority import ReviewDecided
from proxy.http.codec import RequestHead
from proxy.http.guard import class_of
from proxy.http.kinds import Hold, Request
from proxy.http.pages import Said
from proxy.postgres.holding import span
from proxy.ssh.holding import Held
from workflows.model import ReviewState

if TYPE_CHECKING:
    from proxy.http.session import HttpSession

AGAIN = 2
"""Seconds after which whoever got 202 may come again."""
FETCH_WITHIN = 600.0
"""Seconds that an approved request waits to be fetched by whoever was sent away."""
PAGE = "/.portcullis/held/"


class Deferred(Held):
    """The question, which outlives the exchange that asked it. `asked` and `until` are known once it stands;
    an approval is spent only when somebody is there for what comes of it.
    """

    noun = "the request"

    def __init__(
        self, session: HttpSession, text: str, request: Request, hold: Hold, *, fetched: bool
    ) -> None:
        super().__init__(session, text, class_of(request.method), hold, lambda _said: None)
        self.request = request
        self.text = text
        self.asked = ""
        self.link = ""
        self.until = 0.0
        self.approved = False
        self.standing = asyncio.Event()
        self._fetched = fetched
        self.wanted = asyncio.Event()
        self.task: asyncio.Task[str] = asyncio.create_task(self._decided())
        if not fetched:
            self.wanted.set()

    @property
    def rule(self) -> str:
        return self._hold.rule

    @property
    def left(self) -> float:
        """Seconds until nobody decides any more."""
        return max(0.0, self.until - self._session.clock.monotonic())

    @property
    def page(self) -> str:
        """The page that waits for it."""
        return f"{PAGE}{self.key}"

    async def _decided(self) -> str:
        try:
            return await self.decide()
        finally:
            self.standing.set()

    def _tell_held(self, asked: str, link: str, seconds: float) -> None:
        self.asked, self.link = asked, link
        self.until = self._session.clock.monotonic() + seconds
        self.standing.set()

    async def _take(self, answer: ReviewDecided | None) -> str:
        if self._abandoned:
            return await super()._take(None)
        if answer is not None and answer.state is ReviewState.APPROVED and self._fetched:
            self.approved = True
            self.standing.set()
            try:
                async with asyncio.timeout(FETCH_WITHIN):
                    await self.wanted.wait()
            except TimeoutError:
                self._withdraw("it was approved, and nobody came back for it")
                return "it was approved, and nobody came back for it in time."
            if self._abandoned:
                return await super()._take(None)
        return await super()._take(answer)

    def abandon(self, why: str) -> None:
        super().abandon(why)
        self.wanted.set()

    @property
    def key(self) -> str:
        """By what its page finds it."""
        return key_of(self.text)


def key_of(text: str) -> str:
    """By what a held request is found again."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def prefers_async(head: RequestHead) -> bool:
    """Whether a program asks not to be kept waiting."""
    return b"respond-async" in head.tokens(b"prefer")


def said_held(held: Deferred, *, browser: bool) -> Said:
    """202: it waits, for whom, and how long."""
    link = f" See {held.link}." if held.link else ""
    why = f"This request waits for {held.asked or 'the people who decide'} (rule {held.rule})."
    way_out = f"It goes on once approved and waits {span(held.left)} at most.{link}"
    if browser:
        return Said(202, "held", why, f"{way_out} This page goes on by itself.", (), AGAIN, held.page)
    headers = ((b"retry-after", b"%d" % AGAIN),)
    return Said(202, "held", why, f"{way_out} Send the same request again to get its answer.", headers)
