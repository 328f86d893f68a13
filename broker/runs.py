"""Statements submitted in chat, by command or over HTTP: put before their quorum, and what came of them.

Reading a statement is the gate's craft; whoever puts the house together brings it (`StatementReader`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit
from broker.agents import over_limit
from broker.codec import decode, encode
from broker.credentials.seal import Seal
from broker.door import Via
from broker.reading import UNKNOWN
from broker.reviews import NO_REVIEW, Reviews
from broker.store import deliveries, results, stories
from broker.store import reviews as table
from workflows import policy, run
from workflows.model import Principal, Quorum, Refusal, Statement, StatementReview
from workflows.policy import Route
from workflows.review import ReviewApproved

KEPT = timedelta(hours=24)
"""How long a result can be fetched."""
NO_READER = Refusal(
    "no-runs", "This broker runs no submitted statements.", "Ask for access, and use a client of your own."
)
NO_RESULT = Refusal("no-result", "There is no result (any more).", "A result is kept for 24 hours.")


@dataclass(frozen=True, slots=True)
class ReadStatement:
    """A statement as the gate reads it without the target's catalog, and what the guardrails ask for it."""

    statement: Statement
    rule: str = ""
    quorum: tuple[Quorum, ...] = ()


class StatementReader(Protocol):
    def read(self, text: str, route: Route, principal: str) -> ReadStatement | Refusal:
        """What a statement is, and who has to agree to it; the refusal where a guardrail refuses it."""
        ...


@dataclass(frozen=True, slots=True)
class RunOutput:
    """What came of a statement: masked rows as text, or the error. `total` rows came, of which `rows` is the
    beginning. `seconds` is how long it took.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    total: int = 0
    tag: str = ""
    seconds: float = 0.0
    sqlstate: str = ""
    error: str = ""
    hint: str = ""

    @property
    def cut(self) -> bool:
        """Whether there were more rows than are kept."""
        return self.total > len(self.rows)


class Runs:
    """`reader` None: nothing can be submitted here."""

    def __init__(self, reviews: Reviews, seal: Seal, reader: StatementReader | None = None) -> None:
        self.reviews = reviews
        self.service = reviews.service
        self.reader = reader
        self._seal = seal

    async def submit(
        self,
        actor: str,
        resource: str,
        text: str,
        *,
        via: Via,
        role: str = "",
        reason: str = "",
        dedupe: str | None = None,
    ) -> StatementReview | Refusal:
        """Have one statement run under a grant of its own, once all who must have agreed."""
        key = deliveries.key_of(via, actor, dedupe, "run") if dedupe else ""
        await self.service.look_again(actor)
        async with self.service.store.write() as tx:
            await self.service.refresh(tx)
            now = self.service.clock.now()
            if key and (first := await deliveries.claim(tx, key, actor, now)):
                return first.refusal or await table.find(tx, first.request_id) or NO_REVIEW
            made = await self._submit(tx, actor, resource, role, text, reason.strip(), via)
            refusal = made if isinstance(made, Refusal) else None
            if refusal:
                await audit.refused(tx, "run", "", refusal, at=now, actor=actor, via=via)
            if key:
                await deliveries.conclude(tx, key, "" if isinstance(made, Refusal) else made.id, refusal)
        if isinstance(made, StatementReview):
            await self.reviews.wake(made)
        return made

    async def result(self, review_id: str, actor: str) -> tuple[StatementReview, RunOutput] | Refusal:
        """What came of it, for whoever sent it, those who may decide it, and administrators. That it was read
        is noted."""
        review = await self.reviews.find_for(review_id, actor)
        if isinstance(review, Refusal):
            return review
        output = await self.output(review_id)
        if output is None:
            return NO_RESULT
        await self.service.note("result.read", review_id, {}, actor=actor, via="api")
        return review, output

    async def output(self, review_id: str) -> RunOutput | None:
        """For our own use: whoever shows it decides to whom."""
        async with self.service.store.read() as tx:
            sealed = await results.find(tx, review_id, self.service.clock.now())
        return decode(self._seal.open(sealed, f"result {review_id}"), RunOutput) if sealed else None

    async def keep(self, review_id: str, output: RunOutput) -> None:
        """Keep what came of a statement, sealed, for a while."""
        sealed = self._seal.close(encode(output), f"result {review_id}")
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            await results.put(tx, review_id, sealed, now, now + KEPT)

    # ----------------------------------------------------------- the inside

    async def _submit(
        self, tx: AsyncConnection, actor: str, resource: str, role: str, text: str, reason: str, via: Via
    ) -> StatementReview | Refusal:
        now, person = self.service.clock.now(), self.service.principal(actor)
        if self.reader is None:
            return NO_READER
        if person is None:
            return UNKNOWN
        held = await self._held(tx, person, resource)
        route = policy.route(self.service.policy, person, resource, role or (held[0] if held else ""))
        if isinstance(route, Refusal):
            return route
        if stopped := self.service.stopped(route.resource.name):
            return stopped
        agent = self.service.config.agents.get(actor)
        if over := await over_limit(tx, agent, now):
            return over
        holds = route.role.name in held
        if refusal := run.check(route, text, reason, holds=holds):
            return refusal
        read = self.reader.read(text, route, actor)
        if isinstance(read, Refusal):
            return read
        quorum = run.quorum_for(() if holds else route.rule.quorum, read.quorum)
        review = StatementReview(
            id=self.service.chance.id("V"),
            requester=actor,
            resource=route.resource.name,
            role=route.role.name,
            grant_id="",
            session_id="",
            statement=read.statement,
            rule=read.rule or route.rule.name,
            quorum=quorum,
            created_at=now,
            lapses_at=now + route.rule.lapse_after,
            reason=reason,
            version=1,
            submitted=True,
            owner=person.owner,
            step_up=bool(quorum)
            and (route.role.terms.steps_up(read.rule) or (route.rule.step_up and not holds)),
        )
        await self.reviews.begin(tx, review, now, via=via)
        if quorum:
            return review
        return await self.reviews.write(tx, review, [ReviewApproved(now)], "", "system", now)

    async def _held(self, tx: AsyncConnection, person: Principal, name: str) -> list[str]:
        """The roles that this person has on the resource now, the longest first."""
        resource = self.service.policy.find(name)
        if resource is None:
            return []
        now = self.service.clock.now()
        live = await stories.live(tx, now, resource=resource.name, principal=person.id)
        return [story.request.role for story in live if not story.request.statement]
