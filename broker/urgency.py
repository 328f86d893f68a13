"""What is urgent, through the one door: emergencies, more time, and the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics
from broker.bus import Bus
from broker.clock import Chance, Clock
from broker.door import Door, Result, Via, just, still_allowed
from broker.identity import offline_codes
from broker.identity.step_up_offers import Wanted
from broker.oncall import OnCallUnavailable
from broker.oncall.roster import Roster, who
from broker.reading import NO_STORY, UNKNOWN
from broker.store import stories
from broker.store.engine import Store
from broker.wakes import SOON, ladder_of, next_wake
from workflows import access, break_glass, escalation, extension, glass_review, policy
from workflows.access import Event, Wish
from workflows.break_glass import Break, IncidentState, OnDuty
from workflows.events import GlassBroken
from workflows.model import Principal, Refusal, Role, Story, Verdict
from workflows.policy import Rule
from workflows.quorum import eligible
from workflows.step_up import Proof, stale

WHICH_DRILL = Refusal(
    "which-drill", "There is not just one resource of which you may break the glass.", "Say: drill RESOURCE."
)
BAD_CODE = Refusal("bad-code", "This code is not good (any more).", "Use another one, or tell security.")


class Urgency(Door):
    """`roster` says who is on call; without one every schedule counts as away."""

    def __init__(
        self,
        store: Store,
        config: Any,
        clock: Clock,
        chance: Chance,
        bus: Bus,
        roster: Roster | None = None,
    ) -> None:
        super().__init__(store, config, clock, chance, bus)
        self.roster = roster

    # -------------------------------------------------------- the emergency

    async def break_glass(
        self,
        actor: str,
        wish: Wish,
        incident: str,
        *,
        via: Via,
        request_id: str = "",
        dedupe: str | None = None,
        proof: Proof | None = None,
    ) -> Result:
        """Take access at once. With `request_id` one's own waiting request becomes the emergency; the wish's
        resource is then that request's.
        """
        result = await self._break(actor, wish, incident, via, request_id, dedupe, None, proof)
        seconds = int(wish.duration.total_seconds()) if wish.duration is not None else None
        wanted = Wanted(
            "break-glass", via, request_id, wish.reason, seconds, wish.role, None, wish.resource, incident
        )
        return await self._or_page(result, actor, wanted)

    async def break_glass_with_code(
        self, code: str, wish: Wish, incident: str, *, via: Via, dedupe: str | None = None
    ) -> Result:
        """The same with a sealed code in place of a login and of the on-call schedule. The code is spent by
        what it opens, and by nothing that is refused.
        """
        held = await offline_codes.check(self.store, code, self.clock.now())
        if held is None:  # not in the trail: anybody could fill it with guesses
            metrics.refusals.labels("break-glass", BAD_CODE.code).inc()
            return BAD_CODE
        if not held.right:
            async with self.store.write() as tx:
                now = self.clock.now()
                return await self._refuse(tx, "break-glass", "", held.principal, via, BAD_CODE, now)
        return await self._break(held.principal, wish, incident, via, "", dedupe, held.id)

    async def _break(
        self,
        actor: str,
        wish: Wish,
        incident: str,
        via: Via,
        request_id: str,
        dedupe: str | None,
        code: str | None,
        proof: Proof | None = None,
    ) -> Result:
        if request_id and (waiting := await self.story(request_id)):
            wish = Wish(waiting.request.resource, wish.role, wish.duration, wish.reason)
        await self.fresh()
        person = self.principal(actor)
        # Asked before the transaction: a slow schedule must not hold a lock.
        asked = self._on_duty(person if code is None else None, wish.resource)
        on_duty, state = await asyncio.gather(asked, self._incident(incident))

        async def work(tx: AsyncConnection, now: datetime) -> Result:
            now_known = self.principal(actor)  # locked since?
            decision = await self._glass(
                tx, now_known, wish, incident, state, on_duty, request_id, code, proof, now
            )
            if isinstance(decision, Refusal):
                return await self._refuse(tx, "break-glass", request_id, actor, via, decision, now)
            before, events = decision
            if before is not None and not events:
                return before
            resource = next(event.grant.resource for event in events if isinstance(event, GlassBroken))
            if stopped := self.stopped(resource):
                return await self._refuse(tx, "break-glass", request_id, actor, via, stopped, now)
            story = await self._write(tx, before, events, actor, via, now)
            if code is not None:
                await offline_codes.spend(tx, code, story.request.id, now)
                note = audit.Note("offline_code.used", story.request.id, {"code": code})
                await audit.append(tx, [note], at=now, actor=actor, via=via)
            return story

        return await self._once(("break-glass", request_id), actor, via, dedupe, work)

    async def drill(
        self, actor: str, resource: str, *, via: Via, code: str = "", dedupe: str | None = None
    ) -> Result:
        """Rehearse breaking the glass of a resource (empty: the only one). Everybody is told and paged as in
        earnest, marked as a drill; the gate holds a grant that lets nobody in. A `code` is tried, not spent.
        """
        person = self.principal(actor)
        if person is not None and not resource:
            names = [n for n in self.policy.resources if break_glass.emergencies(self.policy, person, n)]
            resource = names[0] if len(names) == 1 else ""
        on_duty = await self._on_duty(person, resource)
        findings = await self._found(person, code, on_duty)

        async def work(tx: AsyncConnection, now: datetime) -> Result:
            decision: access.Decision
            if person is None:
                decision = UNKNOWN
            elif not resource:
                decision = WHICH_DRILL
            elif isinstance(findings, Refusal):
                decision = findings
            else:
                command = await self._break_of(tx, person, Wish(resource), "", on_duty, findings=findings)
                request_id = await stories.free_id(tx, self.chance, "R")
                decision = break_glass.drill(self.policy, command, request_id, now)
            if isinstance(decision, Refusal):
                return await self._refuse(tx, "drill", "", actor, via, decision, now)
            return await self._write(tx, None, decision, actor, via, now)

        return await self._once(("drill", resource), actor, via, dedupe, work)

    async def _found(self, person: Principal | None, code: str, on_duty: OnDuty) -> tuple[str, ...] | Refusal:
        """What the way to a drill shows: which schedules answered, and whether there are sealed codes."""
        if person is None:
            return UNKNOWN
        now = self.clock.now()
        found = [f"The schedule {name} did not answer." for name in on_duty.away]
        found += [
            f"The schedule {name} answered."
            for name in dict.fromkeys(duty.schedule for duty in on_duty.duties)
        ]
        codes = await offline_codes.listed(self.store, person.id)
        ready = sum(one.ended_at is None and one.expires_at > now for one in codes)
        found.append(f"{ready} sealed code{'' if ready == 1 else 's'} of {person.id} can be used.")
        if code:
            held = await offline_codes.check(self.store, code, now)
            if held is None or not held.right or held.principal != person.id:
                return BAD_CODE
            found.append("The sealed code that was tried is good; it was not spent.")
        return tuple(found)

    async def drills_of(self, actor: str) -> list[Story]:
        """The drills of this person, the newest first."""
        async with self.store.read() as tx:
            found = await stories.emergencies_of(tx, actor)
        return [story for story in found if story.request.emergency and story.request.emergency.drill]

    async def _on_duty(self, person: Principal | None, resource: str) -> OnDuty:
        """Ask the schedules by which this person might qualify."""
        if person is None:
            return OnDuty()
        rules = break_glass.emergencies(self.policy, person, resource)
        names = [name for rule in rules for name in rule.schedules]
        if self.roster is None:
            return OnDuty(away=tuple(dict.fromkeys(names)))
        return await self.roster.on_duty(self.config, names)

    async def _incident(self, name: str) -> IncidentState:
        if self.roster is None:
            return IncidentState.UNASKED
        return await self.roster.incident(self.config, name)

    async def _glass(
        self,
        tx: AsyncConnection,
        person: Principal | None,
        wish: Wish,
        incident: str,
        state: IncidentState,
        on_duty: OnDuty,
        request_id: str,
        code: str | None,
        proof: Proof | None,
        now: datetime,
    ) -> tuple[Story | None, Sequence[Event]] | Refusal:
        """Decide in the caller's transaction, with nobody else deciding on this person's emergencies."""
        if person is None:
            return UNKNOWN
        if code is not None and not await offline_codes.lock(tx, code, now):
            return BAD_CODE
        by = proof.by if proof else ""
        command = await self._break_of(
            tx, person, wish, incident, on_duty, state=state, code=code is not None, proof=by
        )
        before = await stories.lock(tx, request_id) if request_id else None
        if request_id and (before is None or not self.may_see(before, person.id)):
            return NO_STORY
        if changed := stale(proof, before.version if before else 0):
            return changed
        if before is not None:
            decision = break_glass.escalate(self.policy, before, command, now)
        else:
            new = await stories.free_id(tx, self.chance, "R")
            decision = break_glass.break_glass(self.policy, command, new, now)
        return decision if isinstance(decision, Refusal) else (before, decision)

    async def _break_of(
        self,
        tx: AsyncConnection,
        person: Principal,
        wish: Wish,
        incident: str,
        on_duty: OnDuty,
        *,
        state: IncidentState = IncidentState.UNASKED,
        code: bool = False,
        proof: str = "",
        findings: tuple[str, ...] | None = None,
    ) -> Break:
        """What is decided on, with nobody else deciding on this person's emergencies until `tx` ends."""
        await stories.lock_person(tx, person.id)
        return Break(
            principal=person,
            wish=wish,
            incident=incident,
            on_duty=on_duty,
            history=await stories.emergencies_of(tx, person.id),
            directory=self.config.directory.everyone(),
            grant_id=await stories.free_id(tx, self.chance, "G"),
            code=code,
            findings=findings,
            proof=proof,
            incident_state=state,
        )

    async def review_break_glass(
        self,
        key: str,
        actor: str,
        verdict: Verdict,
        *,
        via: Via,
        note: str = "",
        dedupe: str | None = None,
    ) -> Result:
        """Say after the fact whether an emergency was one. Who may is looked up now."""
        command = glass_review.Review(actor, verdict, self.config.directory.everyone(), note)
        rules = glass_review.decide
        return await self._move("review", key, just(command), actor, via, dedupe, rules)

    async def on_call_now(self, schedule: str) -> list[Principal]:
        """Who is on call for a schedule, for paging and showing them. Raises OnCallUnavailable."""
        if self.roster is None:
            raise OnCallUnavailable("no schedule can be asked here")
        answer = await self.roster.shown(self.config, schedule)
        found = (who(person, self.config.directory) for person in answer.people)
        return list({person.id: person for person in found if person}.values())

    async def reviews_owed(self, actor: str) -> list[Story]:
        """Emergencies that this person may review now, the most urgent first; all of them for
        administrators and auditors, who see what is owed.
        """
        person = self.principal(actor)
        async with self.store.read() as tx:
            owed = await stories.owed_reviews(tx)
        everyone = self.config.directory.everyone()
        return [s for s in owed if glass_review.may_review(s, person, everyone) or self.reads_all(actor)]

    # ------------------------------------------------------------ less time

    async def approve_for_less(
        self,
        request_id: str,
        actor: str,
        *,
        via: Via,
        duration: timedelta | None = None,
        role: str = "",
        reason: str = "",
        dedupe: str | None = None,
        proof: Proof | None = None,
    ) -> Result:
        """Say yes to less than was asked: a shorter time, a narrower role (a name), or both."""

        async def plan(tx: AsyncConnection, story: Story, now: datetime) -> Any:
            if changed := stale(proof, story.version):
                return changed
            everyone = self.config.directory.everyone()
            narrower = self._role(story, role) if role else None
            if isinstance(narrower, Refusal):
                return narrower
            grant_id = await stories.free_id(tx, self.chance, "G")
            by, step_up = proof.by if proof else "", self.steps_up(story)
            command = access.ApproveForLess(
                actor, everyone, grant_id, duration, narrower, reason, by, step_up
            )
            decision = access.decide(story, command, now)
            if isinstance(decision, Refusal) or not decision:
                return command
            after = story
            for event in decision:
                after = access.evolve(after, event)
            return still_allowed(self.policy, after, everyone) or command

        result = await self._move("approve", request_id, plan, actor, via, dedupe)
        seconds = int(duration.total_seconds()) if duration is not None else None
        return await self._or_page(result, actor, Wanted("less", via, request_id, reason, seconds, role))

    def steps_up(self, story: Story) -> bool:
        """Whether the policy of today has a yes to this need a passkey, whatever it was when it was asked."""
        rule = self.policy.rule(story.request.rule)
        return rule is not None and rule.step_up

    def _role(self, story: Story, name: str) -> Role | Refusal:
        resource = self.policy.find(story.request.resource)
        role = resource.role(name) if resource else None
        return role or Refusal("no-such-role", f"There is no role “{name}” on {story.request.resource}.")

    # ------------------------------------------------------------ more time

    async def extend(
        self,
        key: str,
        actor: str,
        span: timedelta,
        *,
        via: Via,
        reason: str = "",
        dedupe: str | None = None,
    ) -> Result:
        """Ask for more time on one's own live grant: given at once, or decided by the approvers."""

        async def plan(_tx: AsyncConnection, story: Story, _now: datetime) -> Any:
            rule = self._rule_of_today(story)
            return rule if isinstance(rule, Refusal) else extension.Extend(actor, span, rule, reason)

        return await self._move("extend", key, plan, actor, via, dedupe, extension.decide)

    async def approve_extension(
        self,
        key: str,
        actor: str,
        *,
        via: Via,
        reason: str = "",
        dedupe: str | None = None,
        proof: Proof | None = None,
    ) -> Result:
        """Say yes to the extension that waits."""

        async def plan(_tx: AsyncConnection, story: Story, _now: datetime) -> Any:
            rule = self._rule_of_today(story)
            refusal = stale(proof, story.version) or (rule if isinstance(rule, Refusal) else None)
            if refusal or isinstance(rule, Refusal):
                return refusal
            everyone, by = self.config.directory.everyone(), proof.by if proof else ""
            return extension.ApproveExtension(actor, everyone, rule, reason, by)

        result = await self._move("approve-extension", key, plan, actor, via, dedupe, extension.decide)
        return await self._or_page(result, actor, Wanted("extension", via, key, reason))

    async def deny_extension(
        self, key: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """Say no to it. The grant stays as it is."""
        command = extension.DenyExtension(actor, self.config.directory.everyone(), reason)
        return await self._move("deny-extension", key, just(command), actor, via, dedupe, extension.decide)

    async def extensions_for(self, actor: str) -> list[Story]:
        """Stories whose holder wants more time and that this person may decide now and has not, the one that
        ends first at the beginning.
        """
        person, now = self.principal(actor), self.clock.now()
        everyone = self.config.directory.everyone()
        async with self.store.read() as tx:
            live = await stories.live(tx, now)
        return [
            story
            for story in reversed(live)
            if eligible(story.request, person, everyone)
            and (waits := extension.waiting(story, now))
            and all(approval.approver != actor for approval in waits.approvals)
        ]

    async def extension_waits(self, key: str) -> bool:
        """Whether a wish for more time waits for a decision on this story."""
        story = await self.story(key)
        return story is not None and extension.waiting(story, self.clock.now()) is not None

    def _rule_of_today(self, story: Story) -> Rule | Refusal:
        """The rule by which its holder would get the same today. An emergency has none, and needs none: it is
        refused by the rules of extensions.
        """
        request = story.request
        person = self.principal(request.holder)
        if person is None:
            return UNKNOWN
        way = policy.route(self.policy, person, request.resource, request.role)
        if not isinstance(way, Refusal):
            return way.rule
        if request.emergency is not None:
            return Refusal("not-extendable", "An emergency is not extended.", "Ask the usual way.")
        return Refusal(
            "policy-changed",
            f"The policy no longer gives {person.id} {request.role} on {request.resource}.",
            "What is open stays open until its end.",
        )

    # ----------------------------------------------------------- the waiting

    async def nudge(self, request_id: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """The requester asks the approvers once more."""

        async def plan(_tx: AsyncConnection, story: Story, _now: datetime) -> Any:
            return escalation.Nudge(actor, ladder_of(self.policy, story))

        return await self._move("nudge", request_id, plan, actor, via, dedupe, escalation.decide)

    async def claim(self, request_id: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """An approver says “looking”."""

        async def plan(_tx: AsyncConnection, story: Story, _now: datetime) -> Any:
            return escalation.Claim(actor, self.config.directory.everyone(), ladder_of(self.policy, story))

        return await self._move("claim", request_id, plan, actor, via, dedupe, escalation.decide)

    async def comment(
        self, request_id: str, actor: str, text: str, *, via: Via, dedupe: str | None = None
    ) -> Result:
        """Keep what somebody who may see the request wrote about it."""

        async def plan(_tx: AsyncConnection, story: Story, _now: datetime) -> Any:
            return escalation.Say(actor, text, self.takes_part(story, actor))

        return await self._move("comment", request_id, plan, actor, via, dedupe, escalation.decide)

    # ------------------------------------------------------------------ time

    async def wake_due(self) -> int:
        """Take the steps, warnings and reminders that are due. Returns how many stories there were."""
        total = 0
        while True:
            now, moved = self.clock.now(), list[Story]()
            async with self.store.write() as tx:
                claimed = await stories.claim_awake(tx, now)
                for story in claimed:
                    events = self._due(story, now)
                    if events:
                        moved.append(await self._write(tx, story, events, "", "system", now))
                    at = next_wake(self.policy, moved[-1] if events else story, now)
                    if not events or (at is not None and at <= now):
                        await stories.set_wake(tx, story.request.id, at and max(at, now + SOON))
            for story in moved:
                await self._wake(story)
            total += len(moved)
            if not claimed:
                return total

    def _due(self, story: Story, now: datetime) -> list[Event]:
        found: list[Event] = []
        for decision in (
            escalation.decide(story, escalation.Climb(ladder_of(self.policy, story)), now),
            escalation.decide(story, escalation.Warn(), now),
            glass_review.decide(story, glass_review.Remind(), now),
        ):
            found += () if isinstance(decision, Refusal) else decision
        return found

    async def next_wake(self) -> datetime | None:
        """When `wake_due` has something to do next."""
        async with self.store.read() as tx:
            return await stories.next_wake(tx)
