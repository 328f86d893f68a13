"""A statement that waits on the wire until people have decided about it.

What waits are the client's own bytes, in the client's end of the session; here is the question, the waiting
and the answer. Every way out but one (approved, and the run taken for the digest of these very bytes) is a
refusal, and a session that ends takes its question back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.authority import HeldStatement, ReviewDecided, ReviewTicket, RunPass
from proxy.postgres import codec
from proxy.postgres.reading import Ruled
from proxy.sql.guard import Verdict
from workflows.model import Refusal, ReviewState, Statement

if TYPE_CHECKING:
    from proxy.postgres.session import Session

T = TypeVar("T")

TICK = 0.5
"""Seconds between two looks at whether the client is still there, while nothing is read from it."""
_GRACE = 2.0
"""Seconds that the broker's own word on a lapsed review is waited for."""
_EARLY = 16
_READABLE = 64 * 1024
"""Bytes of text and values that people can be asked to decide on."""


@dataclass(slots=True)
class Review:
    """What a recording says of a statement that was held. `waited` is in seconds."""

    id: str = ""
    decision: str = ""
    by: str = ""
    waited: float = 0.0

    @property
    def told(self) -> dict[str, Any]:
        """Its fields in a recording's entry."""
        return {
            "review": self.id,
            "decision": self.decision,
            "decided_by": self.by,
            "waited": round(self.waited, 3),
        }


@dataclass(frozen=True, slots=True)
class Words:
    """A statement as it came: its text, and what a Bind gave it (types, and formats and values)."""

    text: bytes
    types: bytes = b""
    values: bytes = b""
    meaning: bytes = b""
    """The texts behind the names of prepared statements that it executes."""
    kinds: bytes = b""
    """What the target says its parameters are; for showing only."""

    @property
    def too_long(self) -> bool:
        """Nobody approves what cannot be shown whole."""
        return len(self.text) + len(self.meaning) + len(self.values) > _READABLE

    @property
    def digest(self) -> str:
        """SHA-256 of the text alone; where it executes by name or there was a Bind, of all its parts."""
        if not (self.types or self.values or self.meaning):
            return hashlib.sha256(self.text).hexdigest()
        parts = (self.text, self.meaning, self.types + self.values)
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


Measure = Callable[[], Awaitable[tuple[int | None, bool]]]
"""Gives the rows a statement will touch, where that can be said, and whether they were counted."""


class PlanFailed(Exception):
    """The target cannot plan the statement, and skips to the next Sync. `fields` are its own words."""

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        super().__init__("the target cannot plan the statement")
        self.fields = fields


class Held:
    """One statement's wait. `start` begins it; `refusal`, `failure` or `run` is set when it is over."""

    def __init__(
        self,
        session: Session,
        words: Words,
        verdict: Ruled,
        shown: str,
        measure: Measure | None,
        transaction: str,
    ) -> None:
        assert verdict.hold is not None
        self.words = words
        self.digest = words.digest
        self.review = Review()
        self.refusal: Verdict | None = None
        self.failure: dict[bytes, bytes] | None = None
        self.run: RunPass | None = None
        self._session = session
        self._verdict = verdict
        self._hold = verdict.hold
        self._shown = shown
        self._measure = measure
        self._transaction = transaction
        self._decision: asyncio.Future[ReviewDecided | Verdict] = asyncio.get_running_loop().create_future()
        self._early: dict[str, ReviewDecided] = {}
        self.then: Callable[[], None] = session.resume
        """Called when it is over, unless the session is."""
        self._measuring: asyncio.Task[None] | None = None
        self._abandoned = ""
        self._since = session.clock.monotonic()

    @property
    def over(self) -> bool:
        return not (self.refusal is None and self.failure is None and self.run is None)

    @property
    def measuring(self) -> bool:
        """Whether the target is being asked something for it."""
        return self._measuring is not None

    def start(self) -> None:
        self._measuring = self._session.gate.spawn(self._go())

    # --- what happens meanwhile

    def decided(self, notice: ReviewDecided) -> None:
        """The broker's word, which may come ahead of its ticket."""
        if not self.review.id:
            if len(self._early) < _EARLY:
                self._early[notice.review] = notice
        elif notice.review == self.review.id:
            self._settle(notice)

    def cancel(self) -> None:
        """The client asks to cancel: PostgreSQL's own words."""
        self._settle(self._refused("canceling statement due to user request", "", "57014"))

    def abandon(self, why: str) -> None:
        """The session is over: nothing runs, and nobody needs to decide any more."""
        self._abandoned = why
        if self._measuring is not None:
            self._measuring.cancel()
        elif self.run is not None:
            self._session.gate.finish_run(self.review.id, f"not run: {why}")
        else:
            self._settle(self._refused(why, ""))

    def _settle(self, answer: ReviewDecided | Verdict) -> None:
        if not self._decision.done():
            self._decision.set_result(answer)

    # --- from the question to the answer

    async def _go(self) -> None:
        session = self._session
        try:
            self.refusal = await self._ask()
        except (ConnectionError, TimeoutError):
            self.refusal = self._refused(
                "the statement needs an approval, and the broker cannot be reached",
                "Nothing was run. Try again in a moment; if it lasts, tell the people who run the gate.",
            )
            self._withdraw("the gate lost the broker")
        except PlanFailed as failed:
            self.failure = failed.fields
        except Exception as error:  # whatever it was: nothing runs that was not approved
            session.gate.log.error("holding failed", session=session.admission.session, exc_info=error)
            self.refusal = self._refused("the gate failed to have the statement approved", "Nothing was run.")
            self._withdraw("the gate failed")
        self.review.waited = session.clock.monotonic() - self._since
        if not self._abandoned:
            self.then()
        elif self.run is not None:
            session.gate.finish_run(self.review.id, f"not run: {self._abandoned}")

    async def _ask(self) -> Verdict | None:
        """The refusal, or None when `run` was taken. Raises ConnectionError, TimeoutError."""
        estimate, counted = await self._measure() if self._measure is not None else (None, False)
        self._measuring = None
        if self._decision.done():  # cancelled before anybody was asked
            return self._not_asked()
        session, hold = self._session, self._hold
        ticket = await self._broker(
            session.gate.authority.ask_review(
                session.settings.name,
                HeldStatement(
                    session=session.admission.session,
                    statement=self._statement(estimate, counted),
                    rule=hold.rule,
                    quorum=hold.quorum,
                    hold_for=hold.hold_for.total_seconds(),
                    transaction=self._transaction,
                ),
            )
        )
        if isinstance(ticket, Refusal):
            self.review.decision = "refused"
            return self._refused(ticket.why, ticket.way_out)
        self.review.id = ticket.review
        if ticket.review in self._early:
            self._settle(self._early[ticket.review])
        if not self._decision.done():
            self._tell_held(ticket)
        return await self._take(await self._wait(ticket))

    def _not_asked(self) -> Verdict:
        answer = self._decision.result()
        assert isinstance(answer, Verdict), "no decision comes on what nobody was asked"
        self.review.decision = "withdrawn"
        return answer

    async def _wait(self, ticket: ReviewTicket) -> ReviewDecided | Verdict:
        clock, settings = self._session.clock, self._session.settings
        deadline = clock.monotonic() + min(ticket.remaining, self._hold.hold_for.total_seconds())
        reminder = clock.monotonic() + settings.hold_notice_every
        while not self._decision.done():
            await asyncio.wait({self._decision}, timeout=TICK)
            now = clock.monotonic()
            if self._decision.done():
                break
            if self._session.client.gone:
                self._session.client_gone()
            elif now >= deadline + _GRACE:
                return self._lapsed()
            elif now >= reminder and now < deadline:
                reminder = now + settings.hold_notice_every
                self._tell(f"still waiting for {ticket.asked}, {span(deadline - now)} left")
        return self._decision.result()

    def _lapsed(self) -> Verdict:
        self._withdraw("nobody decided in time")
        self.review.decision = ReviewState.LAPSED.value
        return self._refused(*self._words_for(ReviewDecided(self.review.id, "", ReviewState.LAPSED)))

    async def _take(self, answer: ReviewDecided | Verdict) -> Verdict | None:
        if isinstance(answer, Verdict):
            if not self.review.decision:
                self.review.decision = "withdrawn"
                self._withdraw(self._abandoned or "the client cancelled it")
            return answer
        self.review.decision = answer.state.value
        self.review.by = answer.by
        if answer.state is not ReviewState.APPROVED:
            return self._refused(*self._words_for(answer))
        session = self._session
        taken = await self._broker(
            session.gate.authority.take_run(
                session.settings.name, self.review.id, session.admission.session, self.digest
            )
        )
        if isinstance(taken, Refusal):
            return self._refused(taken.why, taken.way_out)
        self.run = taken
        if not self._abandoned:
            self._tell(f"approved{_by(answer.by)}{_because(answer.reason)}")
        return None

    async def _broker(self, call: Awaitable[T]) -> T:
        async with asyncio.timeout(self._session.settings.answer_timeout):
            return await call

    def _withdraw(self, why: str) -> None:
        if self.review.id:
            self._session.gate.withdraw_review(self.review.id, why)

    # --- words

    def _statement(self, estimate: int | None, counted: bool) -> Statement:
        verdict = self._verdict
        bounds = {s.traits.bounded for s in verdict.statements} - {None}
        return Statement(
            text=self._shown,
            digest=self.digest,
            statement_class=verdict.statement_class,
            tables=tuple(sorted(verdict.tables)),
            bounded=all(bounds) if bounds else None,
            estimate=estimate,
            counted=counted,
        )

    def _tell_held(self, ticket: ReviewTicket) -> None:
        said = next((rail.message for rail in self._hold.guardrails if rail.message), "")
        left = span(min(ticket.remaining, self._hold.hold_for.total_seconds()))
        self._tell(
            f"held by the rule {self._hold.rule}{': ' + said if said else ''}; asked {ticket.asked}",
            detail=f"See {ticket.link}" if ticket.link else "",
            hint=f"It runs once approved. It waits {left} at most; cancel it to take it back.",
        )

    def _tell(self, text: str, detail: str = "", hint: str = "") -> None:
        fields = {b"S": "NOTICE", b"V": "NOTICE", b"C": "00000", b"M": text, b"D": detail, b"H": hint}
        self._session.client.write(
            codec.report(b"N", {k: v.replace("\0", "").encode() for k, v in fields.items() if v})
        )

    def _words_for(self, answer: ReviewDecided) -> tuple[str, str]:
        rule = f"(guardrail {self._hold.rule})"
        match answer.state:
            case ReviewState.DENIED:
                return (
                    f"the statement was denied{_by(answer.by)}{_because(answer.reason)} {rule}",
                    f"Nothing was run. Talk to {answer.by or 'those who were asked'}, or change it.",
                )
            case ReviewState.LAPSED:
                waited = span(self._hold.hold_for.total_seconds())
                return (
                    f"nobody approved the statement within {waited} {rule}",
                    "Nothing was run. Send it again to ask again.",
                )
            case _:
                how = f"{answer.state.value}{_by(answer.by)}{_because(answer.reason)}"
                return (
                    f"the statement's review was {how} {rule}",
                    "Nothing was run. Send it again to ask again.",
                )

    def _refused(self, reason: str, hint: str, sqlstate: str = "42501") -> Verdict:
        it = self._verdict
        return Verdict(
            "refuse", it.statement_class, it.statements, reason=reason, hint=hint, sqlstate=sqlstate
        )


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def span(seconds: float) -> str:
    """Seconds in words, rounded up, so that no wait is announced as over before it is."""
    if seconds < 90:
        return f"{max(1, -int(-seconds // 1))} s"
    return f"{-int(-seconds // 60)} min"
