"""The one door: every change of a story goes through here.

One transaction a call: lock the story, let workflows/access decide, write the state, the audit events and the
work that follows; commit; then wake whoever waits. Every call may be repeated without harm. Bot, API, CLI,
scheduler and gate all come in here, and none of them writes a story otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics, outbox
from broker.bus import DEADLINES, GRANTS, OUTBOX
from broker.codec import kind_of
from broker.reading import NO_STORY, UNKNOWN, Reading
from broker.store import credentials, deliveries, stories
from workflows import access, policy
from workflows.access import Command, Event, GrantEnded, RequestApproved, RequestSubmitted, Wish
from workflows.model import Principal, Refusal, Story

GATE_FIRST = timedelta(seconds=0.5)
"""The gate is told at once and cuts with a word of explanation; the login at the target falls right after."""

Via = Literal["slack", "api", "cli", "system", "gate"]
Result = Story | Refusal
Plan = Callable[[AsyncConnection, Story, datetime], Awaitable[Command | Refusal]]
"""Makes the command for a locked story."""


class Service(Reading):
    """`actor` is the principal who acts, as the caller has authenticated them; "" is the system itself.

    `dedupe` names a delivery (a Slack trigger, an Idempotency-Key): the same again from the same actor gives
    what came of it first, as it is now, and has no second effect.
    """

    # ----------------------------------------------------------- requests

    async def submit(self, actor: str, wish: Wish, *, via: Via, dedupe: str | None = None) -> Result:
        """Ask for access."""

        async def work(tx: AsyncConnection, now: datetime) -> Result:
            person = self.principal(actor)
            if person is None:
                return await self._refuse(tx, "submit", "", actor, via, UNKNOWN, now)
            route = policy.route(self.policy, person, wish.resource, wish.role)
            if isinstance(route, Refusal):
                return await self._refuse(tx, "submit", "", actor, via, route, now)
            request_id = await stories.free_id(tx, self.chance, "R")
            grant_id = await stories.free_id(tx, self.chance, "G")
            decision = access.submit(route, person, wish, request_id, grant_id, now)
            if isinstance(decision, Refusal):
                return await self._refuse(tx, "submit", "", actor, via, decision, now)
            return await self._write(tx, None, decision, actor, via, now)

        return await self._once(("submit",), actor, via, dedupe, work)

    async def approve(
        self, request_id: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """Say yes. Who may is looked up now, and so is whether the policy would still give it."""

        async def plan(tx: AsyncConnection, story: Story, now: datetime) -> Command | Refusal:
            everyone = self.config.directory.everyone()
            grant_id = await stories.free_id(tx, self.chance, "G")
            command = access.Approve(actor, everyone, grant_id, reason)
            decision = access.decide(story, command, now)
            grants = not isinstance(decision, Refusal) and any(
                isinstance(e, RequestApproved) for e in decision
            )
            refusal = (
                still_allowed(self.policy, story, everyone.get(story.request.requester)) if grants else None
            )
            return refusal or command

        return await self._move("approve", request_id, plan, actor, via, dedupe)

    async def deny(
        self, request_id: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        command = access.Deny(actor, self.config.directory.everyone(), reason)
        return await self._move("deny", request_id, _just(command), actor, via, dedupe)

    async def cancel(self, request_id: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """The requester takes the request back."""
        return await self._move("cancel", request_id, _just(access.Cancel(actor)), actor, via, dedupe)

    # ------------------------------------------------------------- grants

    async def release(self, key: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """The holder gives the grant back. `key` is a grant id or a request id."""
        return await self._move("release", key, _just(access.Release(actor)), actor, via, dedupe)

    async def revoke(
        self, key: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """An approver or an administrator ends the grant. `key` is a grant id or a request id."""
        everyone = self.config.directory.everyone()
        command = access.Revoke(actor, everyone, reason, as_admin=self.is_admin(actor))
        return await self._move("revoke", key, _just(command), actor, via, dedupe)

    async def confirm_hold(self, grant_id: str, gate: str) -> Result:
        """A gate holds the grant. Counts only once the login is ready."""

        async def plan(tx: AsyncConnection, _story: Story, _now: datetime) -> Command | Refusal:
            if await credentials.ready(tx, grant_id) is None:
                return Refusal("not-ready", f"The login for {grant_id} is not ready.")
            return access.ConfirmHold(gate)

        return await self._move("hold", grant_id, plan, gate, "gate", None)

    async def fail_grant(self, grant_id: str, why: str) -> Result:
        """The login could not be made: end the grant. `why` is shown to people and holds no secret."""
        return await self._move("fail", grant_id, _just(access.FailGrant(why)), "", "system", None)

    # --------------------------------------------------------------- time

    async def expire_due(self) -> int:
        """End every grant and lapse every request that is due. Returns how many there were."""
        total = 0
        while True:
            now, moved = self.clock.now(), []
            async with self.store.write() as tx:
                for story in await stories.claim_due(tx, now):
                    command = access.Expire() if story.grant else access.Lapse()
                    events = access.decide(story, command, now)
                    if events and not isinstance(events, Refusal):
                        moved.append(await self._write(tx, story, events, "", "system", now))
            for story in moved:
                await self._wake(story)
            total += len(moved)
            if not moved:
                return total

    async def lapse_due(self) -> int:
        """Requests and grants fall due in one sweep; kept as the word for whoever asks for the one."""
        return await self.expire_due()

    # -------------------------------------------------------------- trail

    async def note_refused(self, actor: str, request_id: str, refusal: Refusal, via: Via) -> None:
        """Write down a press that was refused before it came to a decision here."""
        async with self.store.write() as tx:
            await self._refuse(tx, "press", request_id, actor, via, refusal, self.clock.now())

    async def note(self, kind: str, subject: str, body: object, *, actor: str, via: Via) -> None:
        """Write down something that happened outside of stories (a login, a reload). No secret in `body`."""
        async with self.store.write() as tx:
            await audit.append(
                tx, [audit.Note(kind, subject, body)], at=self.clock.now(), actor=actor, via=via
            )

    # --------------------------------------------------------- the inside

    async def _move(
        self, verb: str, key: str, plan: Plan, actor: str, via: Via, dedupe: str | None
    ) -> Result:
        async def work(tx: AsyncConnection, now: datetime) -> Result:
            story = await stories.lock(tx, key)
            if story is None:
                return await self._refuse(tx, verb, key, actor, via, NO_STORY, now)
            command = await plan(tx, story, now)
            refused = isinstance(command, Refusal)
            decision = command if isinstance(command, Refusal) else access.decide(story, command, now)
            if isinstance(decision, Refusal):
                return await self._refuse(tx, verb, story.request.id, actor, via, decision, now)
            return (
                story if refused or not decision else await self._write(tx, story, decision, actor, via, now)
            )

        return await self._once((verb, key), actor, via, dedupe, work)

    async def _once(
        self,
        about: Sequence[str],
        actor: str,
        via: Via,
        dedupe: str | None,
        work: Callable[[AsyncConnection, datetime], Awaitable[Result]],
    ) -> Result:
        """Run `work` in one transaction, or give the first outcome where the delivery came before."""
        key = deliveries.key_of(via, actor, dedupe, *about) if dedupe else ""
        async with self.store.write() as tx:
            now = self.clock.now()
            if key and (first := await deliveries.claim(tx, key, actor, now)):
                metrics.repeats.labels(via).inc()
                return first.refusal or await stories.find(tx, first.request_id) or NO_STORY
            result = await work(tx, now)
            if key:
                refusal = result if isinstance(result, Refusal) else None
                await deliveries.conclude(
                    tx, key, "" if isinstance(result, Refusal) else result.request.id, refusal
                )
        if isinstance(result, Story):
            await self._wake(result)
        return result

    async def _write(
        self,
        tx: AsyncConnection,
        before: Story | None,
        events: Sequence[Event],
        actor: str,
        via: Via,
        now: datetime,
    ) -> Story:
        """Apply events: state, audit and the work that follows, in the caller's transaction."""
        story = before
        for event in events:
            if isinstance(event, RequestSubmitted):
                story = access.begin(event)
            elif story is not None:
                story = access.evolve(story, event)
            metrics.transitions.labels(kind_of(event)).inc()
        assert story is not None, "a story begins with RequestSubmitted"
        if before is None:
            await stories.add(tx, story)
        else:
            await stories.save(tx, story, before.version)
        notes = [audit.Note(kind_of(event), story.request.id, event) for event in events]
        await audit.append(tx, notes, at=now, actor=actor, via=via)
        await self._leave_work(tx, story, events, now)
        return story

    async def _leave_work(
        self, tx: AsyncConnection, story: Story, events: Sequence[Event], now: datetime
    ) -> None:
        await outbox.put(tx, outbox.CARD, story.request.id, now)
        for event in events:
            if isinstance(event, RequestApproved):
                await outbox.put(tx, outbox.MINT, event.grant.id, now)
            elif isinstance(event, GrantEnded) and story.grant:
                await outbox.withdraw(tx, outbox.MINT, story.grant.id, now)
                await outbox.put(tx, outbox.DROP, story.grant.id, now, delay=GATE_FIRST)

    async def _refuse(
        self,
        tx: AsyncConnection,
        verb: str,
        subject: str,
        actor: str,
        via: Via,
        refusal: Refusal,
        now: datetime,
    ) -> Refusal:
        body = {"verb": verb, "code": refusal.code, "why": refusal.why}
        await audit.append(tx, [audit.Note("refused", subject, body)], at=now, actor=actor, via=via)
        metrics.refusals.labels(verb, refusal.code).inc()
        return refusal

    async def _wake(self, story: Story) -> None:
        await self.bus.publish(OUTBOX, story.request.id)
        await self.bus.publish(DEADLINES, story.request.id)
        if story.grant:
            await self.bus.publish(GRANTS, story.grant.id)


def still_allowed(current: policy.Policy, story: Story, requester: Principal | None) -> Refusal | None:
    """Why the policy of today would not give this person what they asked for; None where it would."""
    request = story.request
    if requester is None:
        return UNKNOWN
    route = policy.route(current, requester, request.resource, request.role)
    if isinstance(route, Refusal) or request.duration > route.rule.longest:
        return Refusal(
            "policy-changed",
            f"The policy no longer gives {request.requester} {request.role} on {request.resource} "
            f"for {policy.spell(request.duration)}.",
            "Deny it, or have it asked again.",
        )
    return None


def _just(command: Command) -> Plan:
    async def plan(_tx: AsyncConnection, _story: Story, _now: datetime) -> Command | Refusal:
        return command

    return plan
