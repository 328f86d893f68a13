"""A command that waits until people have decided about it: the question, the waiting, and the answer.

What waits is the client's own line; the approval is taken for the digest of its very bytes. Every way out but
that is a refusal, and a channel that closes takes its question back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from proxy.authority import HeldStatement, ReviewDecided
from proxy.postgres.holding import span
from proxy.sql.guardrails import Hold
from proxy.ssh.tape import Decided
from workflows.model import Refusal, ReviewState, Statement, StatementClass

if TYPE_CHECKING:
    from proxy.authority import Admission
    from proxy.gate import Gate
    from proxy.sessions import Clock

T = TypeVar("T")

_GRACE = 2.0
"""Seconds that the broker's own word on a lapsed review is waited for."""
_READABLE = 16 * 1024
"""Characters that people can be asked to decide on."""
_EARLY = 16
_AGAIN = "Nothing was run. Send it again to ask again."


class Asking(Protocol):
    """A session in which something is held."""

    gate: Gate
    clock: Clock
    admission: Admission


class Held:
    """One line's wait. `tell` says something to the client."""

    noun = "the command"

    def __init__(
        self, session: Asking, text: str, of_class: StatementClass, hold: Hold, tell: Callable[[str], None]
    ) -> None:
        self._session = session
        self._statement = Statement(text, hashlib.sha256(text.encode()).hexdigest(), of_class)
        self._hold = hold
        self._tell = tell
        self._answer: asyncio.Future[ReviewDecided | None] = asyncio.get_running_loop().create_future()
        self._early: dict[str, ReviewDecided] = {}
        self._abandoned = ""
        self.taken = False
        self.review = Decided()

    # --- what happens meanwhile

    def decided(self, notice: ReviewDecided) -> None:
        """The broker's word, which may come ahead of its ticket."""
        if not self.review.review:
            if len(self._early) < _EARLY:
                self._early[notice.review] = notice
        elif notice.review == self.review.review and not self._answer.done():
            self._answer.set_result(notice)

    def abandon(self, why: str) -> None:
        """The channel is closed: nothing runs, and nobody needs to decide any more."""
        self._abandoned = why
        if self.taken:
            return
        if not self._answer.done():
            self._answer.set_result(None)

    def finished(self, outcome: str) -> None:
        """How the run went, for the broker."""
        if self.taken:
            self._session.gate.finish_run(self.review.review, outcome)

    # --- from the question to the answer

    async def decide(self) -> str:
        """Empty once the run was taken; else why nothing runs, in words."""
        since = self._session.clock.monotonic()
        try:
            return await self._ask()
        except (ConnectionError, TimeoutError):
            self._withdraw("the gate lost the broker")
            return (
                f"{self.noun} needs an approval, and the broker cannot be reached. Nothing was run. Try "
                "again in a moment; if it lasts, tell the people who run the gate."
            )
        finally:
            self.review.waited = self._session.clock.monotonic() - since

    async def _ask(self) -> str:
        session, hold = self._session, self._hold
        if len(self._statement.text) > _READABLE:
            return f"{self.noun} is too long for anybody to be asked about. Nothing was run."
        held = HeldStatement(
            session=session.admission.session,
            statement=self._statement,
            rule=hold.rule,
            quorum=hold.quorum,
            hold_for=hold.hold_for.total_seconds(),
        )
        ticket = await self._broker(session.gate.authority.ask_review(session.gate.settings.name, held))
        if isinstance(ticket, Refusal):
            self.review.decision = "refused"
            return str(ticket)
        self.review.review = ticket.review
        if (early := self._early.get(ticket.review)) is not None and not self._answer.done():
            self._answer.set_result(early)
        seconds = min(ticket.remaining, hold.hold_for.total_seconds())
        if not self._answer.done():
            self._tell_held(ticket.asked, ticket.link, seconds)
        return await self._take(await self._wait(ticket.asked, seconds))

    def _tell_held(self, asked: str, link: str, seconds: float) -> None:
        said = next((rail.message for rail in self._hold.guardrails if rail.message), "")
        see = f" See {link}." if link else ""
        self._tell(
            f"held by the rule {self._hold.rule}{': ' + said if said else ''}; asked {asked}.{see} "
            f"It runs once approved and waits {span(seconds)} at most; Ctrl-C takes it back."
        )

    async def _wait(self, asked: str, seconds: float) -> ReviewDecided | None:
        clock, every = self._session.clock, self._session.gate.settings.hold_notice_every
        deadline = clock.monotonic() + seconds
        while not self._answer.done():
            left = deadline - clock.monotonic()
            if left <= -_GRACE:
                self._withdraw("nobody decided in time")
                return ReviewDecided(self.review.review, "", ReviewState.LAPSED)
            await asyncio.wait({self._answer}, timeout=min(every, left + _GRACE))
            left = deadline - clock.monotonic()
            if not self._answer.done() and left > 0:
                self._tell(f"still waiting for {asked}, {span(left)} left")
        return self._answer.result()

    async def _take(self, answer: ReviewDecided | None) -> str:
        if answer is None:
            self.review.decision = "withdrawn"
            self._withdraw(self._abandoned or "the client left")
            return self._abandoned or "the client left"
        self.review.decision, self.review.by = answer.state.value, answer.by
        if answer.state is not ReviewState.APPROVED:
            return self._words_for(answer)
        session = self._session
        taken = await self._broker(
            session.gate.authority.take_run(
                session.gate.settings.name,
                self.review.review,
                session.admission.session,
                self._statement.digest,
            )
        )
        if isinstance(taken, Refusal):
            return str(taken)
        self.taken = True
        if self._abandoned:
            self.finished(f"not run: {self._abandoned}")
            return self._abandoned
        self._tell(f"approved{_by(answer.by)}{_because(answer.reason)}")
        return ""

    async def _broker(self, call: Awaitable[T]) -> T:
        async with asyncio.timeout(self._session.gate.settings.answer_timeout):
            return await call

    def _withdraw(self, why: str) -> None:
        if self.review.review:
            self._session.gate.withdraw_review(self.review.review, why)

    def _words_for(self, answer: ReviewDecided) -> str:
        rule = f"(guardrail {self._hold.rule})"
        match answer.state:
            case ReviewState.DENIED:
                who = answer.by or "those who were asked"
                said = f"denied{_by(answer.by)}{_because(answer.reason)} {rule}"
                return f"{self.noun} was {said}. Nothing was run. Talk to {who}, or change it."
            case ReviewState.LAPSED:
                waited = span(self._hold.hold_for.total_seconds())
                return f"nobody approved {self.noun} within {waited} {rule}. {_AGAIN}"
            case _:
                how = f"{answer.state.value}{_by(answer.by)}{_because(answer.reason)}"
                return f"the review of {self.noun} was {how} {rule}. {_AGAIN}"


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
