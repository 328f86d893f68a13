"""The broker's side of held statements in memory, deciding by the product's own rules (workflows/review)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from proxy.authority import HeldStatement, Notice, ReviewDecided, ReviewTicket, RunPass
from workflows import review as rules
from workflows.model import Principal, Refusal, ReviewState, StatementReview

PEOPLE = {
    name: Principal(name, name.title(), f"{name}@example.com", frozenset(groups))
    for name, groups in {"ada": ["dev"], "grace": ["dba"], "edsger": ["dba"], "mallory": ["dev"]}.items()
}
_BEGINNING = datetime(2026, 11, 24, tzinfo=UTC)


class MemoryReviews:
    """Reviews of one authority. `tell` sends a notice to the gates; `owner` gives a session's grant."""

    def __init__(
        self, clock: Callable[[], float], tell: Callable[[Notice], None], owner: Callable[[str], str]
    ) -> None:
        self.all: dict[str, StatementReview] = {}
        self.held: dict[str, HeldStatement] = {}
        self.outcomes: dict[str, str] = {}
        self.runs: list[str] = []
        self.refusal: Refusal | None = None
        """What asking is answered with, if set."""
        self.before_run: Callable[[], object] = lambda: None
        self.decide: Callable[[StatementReview], bool] | None = None
        """Decides at once, even ahead of the ticket, if set."""
        self._clock = clock
        self._tell = tell
        self._owner = owner
        self._serial = itertools.count(1)
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        return _BEGINNING + timedelta(seconds=self._clock())

    def ask(self, held: HeldStatement) -> ReviewTicket | Refusal:
        if self.refusal is not None:
            return self.refusal
        now = self.now()
        it = StatementReview(
            id=f"V-{next(self._serial)}",
            requester="ada",
            resource="prod-db",
            role="readonly",
            grant_id=self._owner(held.session),
            session_id=held.session,
            statement=held.statement,
            rule=held.rule,
            quorum=held.quorum,
            created_at=now,
            lapses_at=now + timedelta(seconds=held.hold_for),
            transaction=held.transaction,
        )
        self.all[it.id] = it
        self.held[it.id] = held
        self._changed.set()
        if self.decide is not None:
            self.approve(it.id) if self.decide(it) else self.deny(it.id)
        groups = " and ".join(quorum.group for quorum in held.quorum)
        return ReviewTicket(it.id, groups, f"https://access.example/statements/{it.id}", held.hold_for)

    def command(self, review: str, command: rules.Command) -> Refusal | None:
        """Carry a command out; tells the gate when that decided the review."""
        it = self.all[review]
        events = rules.decide(it, command, self.now())
        if isinstance(events, Refusal):
            return events
        for event in events:
            it = rules.evolve(it, event)
        before, self.all[review] = self.all[review].state, it
        if it.state is not before:
            self._changed.set()
            if it.state not in (ReviewState.RUNNING, ReviewState.FINISHED):
                by = it.closed_by or ", ".join(a.approver for a in it.approvals if a.yes)
                said = it.close_reason or " ".join(a.reason for a in it.approvals)
                self._tell(ReviewDecided(review, it.session_id, it.state, by, said))
        return None

    def approve(
        self, review: str, by: str = "grace", *, row_budget: int | None = None, reason: str = ""
    ) -> None:
        refusal = self.command(review, rules.Approve(by, PEOPLE, row_budget, reason))
        assert refusal is None, refusal

    def deny(self, review: str, by: str = "grace", reason: str = "not today") -> None:
        refusal = self.command(review, rules.Deny(by, PEOPLE, reason))
        assert refusal is None, refusal

    def take_run(self, review: str, session: str, digest: str) -> RunPass | Refusal:
        refusal = self.command(review, rules.Run(digest, self._owner(session), session))
        if refusal is not None:
            return refusal
        self.runs.append(review)
        self.before_run()
        return RunPass(review, self.all[review].row_budget)

    def finish(self, review: str, outcome: str) -> None:
        self.outcomes[review] = outcome
        self.command(review, rules.Finish(outcome))

    def withdraw(self, review: str, why: str) -> None:
        self.command(review, rules.Withdraw(why))

    # --- for tests

    async def asked(self, count: int = 1) -> StatementReview:
        """The review that was asked as number `count`, once it is."""
        await self._until(lambda: len(self.all) >= count)
        return list(self.all.values())[count - 1]

    async def state(self, review: str, *states: ReviewState) -> StatementReview:
        """The review, once it is in one of these states."""
        await self._until(lambda: self.all[review].state in states)
        return self.all[review]

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not true():
                self._changed.clear()
                await self._changed.wait()
