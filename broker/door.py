"""Behind the one door: how a change of a story is made, whoever asks for it and whatever it is.

One transaction a call: lock the story, let the rules decide, write the state, the audit events and the work
that follows; commit; then wake whoever waits.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics, outbox
from broker.bus import DEADLINES, GRANTS, OUTBOX
from broker.codec import kind_of
from broker.identity.step_up_offers import Wanted, with_page
from broker.paging import rows as paging
from broker.reading import NO_STORY, UNKNOWN, Reading
from broker.store import deliveries, stories
from broker.wakes import next_wake, notices
from workflows import access, policy
from workflows.access import ApprovalGiven, Decision, Event, GrantEnded, RequestApproved, RequestSubmitted
from workflows.events import ExtensionApproved, ExtensionAsked, GlassBroken, GrantExtended, StepTaken
from workflows.model import Principal, Refusal, Story
from workflows.policy import StepKind
from workflows.step_up import NEEDED

GATE_FIRST = timedelta(seconds=0.5)
"""The gate is told at once and cuts with a word of explanation; the login at the target falls right after."""

_OPENING = (
    RequestApproved, ApprovalGiven, GlassBroken, ExtensionAsked, ExtensionApproved, GrantExtended
)  # fmt: skip
"""What does not happen on a resource that is locked."""

Via = Literal["slack", "api", "cli", "system", "gate"]
_BY_PEOPLE = ("slack", "api", "cli")
Result = Story | Refusal
Plan = Callable[[AsyncConnection, Story, datetime], Awaitable[Any | Refusal]]
"""Makes the command for a locked story."""
Rules = Callable[[Story, Any, datetime], Decision]
"""The pure function that decides the command."""


class Door(Reading):
    """What Service is made of; nobody else comes in here."""

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

    async def _or_page(self, result: Result, actor: str, wanted: Wanted) -> Result:
        """What came of a decision; where it lacks a passkey, with the page where it goes on."""
        if isinstance(result, Refusal) and result.code == NEEDED:
            return await with_page(self, result, actor, wanted)
        return result

    async def _move(
        self,
        verb: str,
        key: str,
        plan: Plan,
        actor: str,
        via: Via,
        dedupe: str | None,
        rules: Rules = access.decide,
    ) -> Result:
        async def work(tx: AsyncConnection, now: datetime) -> Result:
            story = await stories.lock(tx, key)
            if story is None:
                return await self._refuse(tx, verb, key, actor, via, NO_STORY, now)
            command = await plan(tx, story, now)
            refused = isinstance(command, Refusal)
            decision = command if isinstance(command, Refusal) else rules(story, command, now)
            if not isinstance(decision, Refusal) and any(isinstance(event, _OPENING) for event in decision):
                decision = self.stopped(story.request.resource) or decision
            if isinstance(decision, Refusal) and decision.code == "not-an-approver":
                decision = self.or_outdated(actor, decision)
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
        if via in _BY_PEOPLE:
            await self.look_again(actor)
        async with self.store.write() as tx:
            await self.refresh(tx)
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
            await stories.add(tx, story, next_wake(self.policy, story, now))
        else:
            await stories.save(tx, story, before.version, next_wake(self.policy, story, now))
        notes = [audit.Note(kind_of(event), story.request.id, event) for event in events]
        notes += [
            _drill_over(story) for event in events if isinstance(event, GrantEnded) and _is_drill(story)
        ]
        await audit.append(tx, notes, at=now, actor=actor, via=via)
        await self._leave_work(tx, story, events, now)
        return story

    async def _leave_work(
        self, tx: AsyncConnection, story: Story, events: Sequence[Event], now: datetime
    ) -> None:
        await outbox.put(tx, outbox.CARD, story.request.id, now)
        for event in events:
            if isinstance(event, RequestApproved | GlassBroken):
                # The login of a grant that begins later is made when it begins.
                later = max(event.grant.not_before - now, timedelta())
                await outbox.put(tx, outbox.MINT, event.grant.id, now, delay=later)
            elif isinstance(event, GrantExtended) and story.grant:
                # Made again, the same login gets its new end.
                await outbox.put(tx, outbox.MINT, story.grant.id, now)
            elif isinstance(event, GrantEnded) and story.grant:
                await outbox.withdraw(tx, outbox.MINT, story.grant.id, now)
                await outbox.put(tx, outbox.DROP, story.grant.id, now, delay=GATE_FIRST)
            for pager in self._pagers(story, event):
                await paging.put(tx, story.request.id, pager, now)
            for notice in notices(story, event):
                body = json.dumps({"request": story.request.id, "version": story.version} | notice)
                await outbox.put(tx, outbox.NOTIFY, f"{story.request.id}:notify", now, body)

        if not paging.is_wanted(story):
            await paging.settle_all(tx, story.request.id, now)

    def _pagers(self, story: Story, event: Event) -> tuple[str, ...]:
        """Who is to be paged because of `event`."""
        config = self.config
        if isinstance(event, StepTaken) and event.what == StepKind.PAGE:
            schedule = config.schedules.get(event.target)
            return (schedule.pager,) if schedule and schedule.pager else ()
        if isinstance(event, GlassBroken) and story.request.emergency:
            name = story.request.emergency.rule
            rule = next((rule for rule in config.policy.emergencies if rule.name == name), None)
            return rule.pagers if rule else ()
        return ()

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
        await audit.refused(tx, verb, subject, refusal, at=now, actor=actor, via=via)
        metrics.refusals.labels(verb, refusal.code).inc()
        return refusal

    async def _wake(self, story: Story) -> None:
        await self.bus.publish(OUTBOX, story.request.id)
        await self.bus.publish(DEADLINES, story.request.id)
        if story.grant:
            await self.bus.publish(GRANTS, story.grant.id)


def _is_drill(story: Story) -> bool:
    return story.request.emergency is not None and story.request.emergency.drill


def _drill_over(story: Story) -> audit.Note:
    """What a drill came to, for the trail."""
    emergency, grant = story.request.emergency, story.grant
    assert emergency is not None
    assert grant is not None
    body = {
        "resource": story.request.resource,
        "gate_held": bool(grant.held_by),
        "told": len(emergency.skipped),
        "findings": [*emergency.findings, *emergency.concerns],
    }
    return audit.Note("drill.finished", story.request.id, body)


def still_allowed(current: policy.Policy, story: Story, directory: Mapping[str, Principal]) -> Refusal | None:
    """Why the policy of today would not give what was asked for; None where it would."""
    request = story.request
    requester, holder = directory.get(request.requester), directory.get(request.holder)
    if requester is None or holder is None:
        return UNKNOWN
    route = policy.route_for(current, requester, holder, request.resource, request.role)
    if isinstance(route, Refusal) or request.duration > route.rule.longest:
        return Refusal(
            "policy-changed",
            f"The policy no longer gives {request.holder} {request.role} on {request.resource} "
            f"for {policy.spell(request.duration)}.",
            "Deny it, or have it asked again.",
        )
    return None


def just(command: object) -> Plan:
    async def plan(_tx: AsyncConnection, _story: Story, _now: datetime) -> Any:
        return command

    return plan
