"""Held statements: put before those who decide, decided, and their one run given out.

The same house rules as for requests: one transaction for the state, the audit and the work that follows;
every call may be repeated. The trail names a statement by its digest, never by its text, which holds values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, outbox, run_steps
from broker.bus import DEADLINES, GRANTS, OUTBOX
from broker.door import Via
from broker.identity.step_up_offers import Wanted, with_page
from broker.service import Service
from broker.store import reviews as table
from broker.store import sessions, stories
from workflows import review as rules
from workflows.gate import HeldStatement, ReviewDecided, ReviewTicket, RunPass
from workflows.model import Refusal, ReviewState, StatementReview
from workflows.quorum import eligible, has_a_say
from workflows.step_up import NEEDED, Proof, stale

NO_REVIEW = Refusal("no-such-review", "There is no such statement waiting that you may see.")
Check = Callable[[AsyncConnection, StatementReview, datetime], "Refusal | None"]


@dataclass(frozen=True, slots=True)
class Voted:
    """What the trail tells of a vote."""

    approver: str
    yes: bool
    reason: str
    row_budget: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What the trail tells of a statement that was held."""

    review: str
    digest: str
    statement_class: str
    tables: tuple[str, ...]
    rule: str
    session: str
    grant: str


class Reviews:
    """The reviews of one broker, beside its service. `public_url` is its address for people, if any."""

    def __init__(self, service: Service, public_url: str = "") -> None:
        self.service = service
        self.public_url = public_url.rstrip("/")

    # ---------------------------------------------------------- for people

    async def approve(
        self,
        review_id: str,
        actor: str,
        *,
        via: Via,
        row_budget: int | None = None,
        reason: str = "",
        proof: Proof | None = None,
    ) -> StatementReview | Refusal:
        """Say yes to these very bytes, once. A yes that needs a passkey and comes without `proof` is refused
        with the page where it is given.
        """
        await self.service.fresh()
        await self.service.look_again(actor)
        everyone = self.service.config.directory.everyone()
        command = rules.Approve(actor, everyone, row_budget, reason, proof.by if proof else "")
        result = await self._move(review_id, command, actor, via, proof=proof)
        if isinstance(result, Refusal) and result.code == NEEDED:
            wanted = Wanted("statement", via, review_id, reason, row_budget=row_budget)
            return await with_page(self.service, result, actor, wanted)
        return result

    async def deny(
        self, review_id: str, actor: str, *, via: Via, reason: str = ""
    ) -> StatementReview | Refusal:
        await self.service.look_again(actor)
        everyone = self.service.config.directory.everyone()
        return await self._move(review_id, rules.Deny(actor, everyone, reason), actor, via)

    async def take_back(self, review_id: str, actor: str, *, via: Via) -> StatementReview | Refusal:
        """Whoever submitted a statement no longer wants it. One held in a session is cancelled there."""
        found = await self.find(review_id)
        if found is None or found.requester != actor or not found.submitted:
            return NO_REVIEW
        return await self._move(review_id, rules.Withdraw("taken back", actor), actor, via)

    async def not_run(self, review_id: str, why: str) -> None:
        """Whatever was approved and is not running will not run any more."""
        found = await self.find(review_id)
        if found is not None and found.state is ReviewState.APPROVED:
            await self._move(review_id, rules.Withdraw(why[:300] or "it did not run"), "", "system")

    async def find(self, review_id: str) -> StatementReview | None:
        """For our own use: whoever shows it decides to whom."""
        async with self.service.store.read() as tx:
            return await table.find(tx, review_id)

    async def find_for(self, review_id: str, actor: str) -> StatementReview | Refusal:
        """For a person: whoever sent it, whoever may decide it, those who may read everything."""
        found = await self.find(review_id)
        return found if found and self._may_see(found, actor) else NO_REVIEW

    async def waiting_for(self, actor: str) -> list[StatementReview]:
        """What this person may decide now and has not decided yet, oldest first."""
        person, now = self.service.principal(actor), self.service.clock.now()
        everyone = self.service.config.directory.everyone()
        async with self.service.store.read() as tx:
            found = await table.pending(tx)
        return [
            it
            for it in found
            if eligible(it, person, everyone)
            and now < it.lapses_at
            and all(approval.approver != actor for approval in it.approvals)
        ]

    async def request_of(self, review_id: str) -> str:
        """The access request under whose grant the statement stands."""
        async with self.service.store.read() as tx:
            return await table.request_of(tx, review_id)

    def _may_see(self, review: StatementReview, actor: str) -> bool:
        person = self.service.principal(actor)
        if person is None or not person.active:
            return False
        return (
            actor == review.requester
            or has_a_say(review, person)
            or self.service.reads_all(actor)
            or any(approval.approver == actor for approval in review.approvals)
        )

    # ------------------------------------------------------- for the gate

    async def ask(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal:
        """Put a held statement before its quorum; asked again while it waits, it is the same review."""
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            made = await self._open(tx, gate, held, now)
        if isinstance(made, Refusal):
            return made
        await self.wake(made)
        asked = " and ".join(f"{q.needed} of {q.group}" for q in made.quorum)
        link = f"{self.public_url}/statements/{made.id}" if self.public_url else ""
        return ReviewTicket(made.id, asked, link, (made.lapses_at - now).total_seconds())

    async def take_run(self, gate: str, review_id: str, session: str, digest: str) -> RunPass | Refusal:
        """Give out the one run, to the gate, session and bytes that it was approved for."""
        found = await self.find(review_id)
        if found is None:
            return NO_REVIEW
        result = await self._move(
            review_id, rules.Run(digest, found.grant_id, session), gate, "gate", at_gate=gate
        )
        return result if isinstance(result, Refusal) else RunPass(result.id, result.row_budget)

    async def finish_run(self, gate: str, review_id: str, outcome: str) -> None:
        await self._move(review_id, rules.Finish(outcome[:200]), gate, "gate", at_gate=gate)

    async def withdraw(self, gate: str, review_id: str, why: str) -> None:
        await self._move(review_id, rules.Withdraw(why[:200]), gate, "gate", at_gate=gate)

    async def decided_at(self, gate: str) -> list[ReviewDecided]:
        """The answers that sessions of this gate may be waiting for."""
        async with self.service.store.read() as tx:
            found = await table.decided_at(tx, gate)
        return [ReviewDecided(it.id, it.session_id, it.state, _decider(it), it.close_reason) for it in found]

    # ------------------------------------------------------------ the clock

    async def close_over(self) -> int:
        """Close what has lapsed, and what nobody waits for because its session or grant has ended."""
        moved: list[StatementReview] = []
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            for found in await table.claim_over(tx, now):
                events = rules.decide(found, _end_of(found, now), now)
                if not isinstance(events, Refusal) and events:
                    moved.append(await self.write(tx, found, events, "", "system", now))
        for review in moved:
            await self.wake(review)
        return len(moved)

    # ----------------------------------------------------------- the inside

    async def _open(
        self, tx: AsyncConnection, gate: str, held: HeldStatement, now: datetime
    ) -> StatementReview | Refusal:
        session = await sessions.find(tx, held.session, lock=True)
        if session is None or session.closed_at is not None or session.gate != gate:
            return Refusal("no-such-session", "The broker does not know this session as open.")
        story = await stories.find(tx, session.request_id)
        if story is None or story.grant is None or not story.grant.live(now):
            return Refusal("grant-ended", "The grant has ended.", "Ask for a new one.")
        if story.request.statement:
            fits = await run_steps.fits(tx, self.service, story, session, held)
            if isinstance(fits, Refusal):
                return fits
            review, bound = fits
            await table.bind(tx, review.id, gate=gate)
            return await self.write(tx, review, [bound], "", "gate", now) if bound else review
        if waiting := await table.waiting(tx, held.session, held.statement.digest):
            return waiting
        if not held.quorum:
            return Refusal(
                "nobody-to-ask",
                f"The rule {held.rule} holds statements, and names nobody who decides.",
                "Whoever keeps the policy can mend it: approval: [{group: …, needed: 1}].",
            )
        review = StatementReview(
            id=self.service.chance.id("V"),
            requester=session.principal,
            resource=session.resource,
            role=session.role,
            grant_id=session.grant_id,
            session_id=session.id,
            statement=held.statement,
            rule=held.rule,
            quorum=held.quorum,
            created_at=now,
            lapses_at=min(now + timedelta(seconds=held.hold_for), story.grant.expiry),
            transaction=held.transaction,
            reason=story.request.reason,
            version=1,
            step_up=story.grant.terms.steps_up(held.rule),
            owner=story.request.owner,
        )
        await self.begin(tx, review, now, request_id=session.request_id, gate=gate)
        return review

    async def begin(
        self,
        tx: AsyncConnection,
        review: StatementReview,
        now: datetime,
        *,
        via: Via = "gate",
        request_id: str = "",
        gate: str = "",
    ) -> None:
        """Write a new review, in the caller's transaction."""
        await table.add(tx, review, request_id=request_id, gate=gate)
        it = review.statement
        told = Opened(
            review.id,
            it.digest,
            it.statement_class,
            it.tables,
            review.rule,
            review.session_id,
            review.grant_id,
        )
        note = audit.Note("review.opened", review.id, told)
        await audit.append(tx, [note], at=now, actor=review.requester, via=via)
        await outbox.put(tx, outbox.REVIEW, review.id, now)

    async def _move(
        self,
        review_id: str,
        command: rules.Command,
        actor: str,
        via: Via,
        *,
        at_gate: str = "",
        proof: Proof | None = None,
    ) -> StatementReview | Refusal:
        async with self.service.store.write() as tx:
            await self.service.refresh(tx)
            now = self.service.clock.now()
            found = await table.lock(tx, review_id)
            if found is None or (at_gate and await table.gate_of(tx, review_id) != at_gate):
                return NO_REVIEW
            decision = (
                stale(proof, found.version)
                or await self._still_wanted(tx, found, command, now)
                or rules.decide(found, command, now)
            )
            if isinstance(decision, Refusal):
                verb = type(command).__name__.lower()
                await audit.refused(tx, verb, review_id, decision, at=now, actor=actor, via=via)
                return decision
            review = await self.write(tx, found, decision, actor, via, now) if decision else found
        await self.wake(review)
        return review

    async def _still_wanted(
        self, tx: AsyncConnection, review: StatementReview, command: rules.Command, now: datetime
    ) -> Refusal | None:
        """A yes, and the run it gives, need a session and a grant that are there now, and its holder too."""
        if not isinstance(command, rules.Approve | rules.Run):
            return None
        if stopped := self.service.stopped(review.resource):
            return stopped
        if isinstance(command, rules.Approve) and review.submitted:
            allowed = run_steps.still_allowed(self.service, review)
            return allowed if isinstance(allowed, Refusal) else None
        session = await sessions.find(tx, review.session_id)
        story = await stories.find(tx, review.grant_id)
        holder = self.service.principal(review.requester)
        open_ = session is not None and session.closed_at is None
        if open_ and story and story.grant and story.grant.live(now) and holder and holder.active:
            return None
        return Refusal(
            "grant-ended",
            f"{review.requester} no longer has {review.resource}, so nothing runs.",
            "It has to be asked anew, under a new grant.",
        )

    async def write(
        self,
        tx: AsyncConnection,
        before: StatementReview,
        events: Sequence[rules.Event],
        actor: str,
        via: Via,
        now: datetime,
    ) -> StatementReview:
        """Apply events, in the caller's transaction. An approved submitted statement gets its grant."""
        review, told = before, list(events)
        for event in events:
            review = rules.evolve(review, event)
            if isinstance(event, rules.ReviewApproved) and review.submitted:
                route = run_steps.still_allowed(self.service, review)
                assert not isinstance(route, Refusal), "held against the policy before it was decided"
                _, bound = await run_steps.give_grant(tx, self.service, review, route, now)
                review = rules.evolve(review, bound)
                told.append(bound)
        await table.save(tx, review, before.version)
        notes = [_note(review.id, event) for event in told]
        await audit.append(tx, notes, at=now, actor=actor, via=via)
        await outbox.put(tx, outbox.REVIEW, review.id, now)
        return review

    async def wake(self, review: StatementReview) -> None:
        """Tell whoever waits, after the transaction."""
        await self.service.bus.publish(OUTBOX, review.id)
        await self.service.bus.publish(GRANTS, review.grant_id)
        await self.service.bus.publish(DEADLINES, review.id)


def _end_of(review: StatementReview, now: datetime) -> rules.Command:
    """How a review ends that is over by itself."""
    if review.state is ReviewState.RUNNING:
        return rules.Finish("its outcome is not known: the session ended before it was told")
    return rules.Lapse() if now >= review.lapses_at else rules.Withdraw("its session or grant ended")


def _note(review_id: str, event: rules.Event) -> audit.Note:
    match event:
        case rules.ReviewVoted(approval, budget):
            told = Voted(approval.approver, approval.yes, approval.reason, budget)
            return audit.Note("review.voted", review_id, told)
        case rules.ReviewApproved():
            return audit.Note("review.approved", review_id, event)
        case rules.ReviewClosed():
            return audit.Note("review.closed", review_id, event)
        case rules.RunBound():
            return audit.Note("review.bound", review_id, event)
        case rules.RunTaken():
            return audit.Note("review.run_taken", review_id, event)
        case rules.RunFinished():
            return audit.Note("review.run_finished", review_id, event)
        case rules.ReviewOpened():
            raise ValueError("a review is opened by Reviews.ask")


def _decider(review: StatementReview) -> str:
    if review.state is ReviewState.APPROVED:
        return " and ".join(approval.approver for approval in review.approvals if approval.yes)
    return review.closed_by
