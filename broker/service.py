"""The one door: every change of a story goes through here.

One transaction a call: lock the story, let workflows/access decide, write the state, the audit events and the
work that follows; commit; then wake whoever waits. Every call may be repeated without harm. Bot, API, CLI,
scheduler and gate all come in here, and none of them writes a story otherwise.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from broker.agents import for_agent, over_limit
from broker.allowing import Allowing
from broker.door import GATE_FIRST, Plan, Result, Via, just, still_allowed
from broker.identity.step_up_offers import Wanted
from broker.reading import NOBODY, UNKNOWN
from broker.store import credentials, stories
from workflows import access, policy
from workflows.access import Command, RequestApproved, RequestSubmitted, Wish
from workflows.model import Refusal, Story
from workflows.step_up import Proof, stale

__all__ = ["GATE_FIRST", "Plan", "Result", "Service", "Via", "still_allowed"]


class Service(Allowing):
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
            holder = self.principal(wish.beneficiary) if wish.beneficiary else person
            if holder is None:
                return await self._refuse(tx, "submit", "", actor, via, NOBODY, now)
            route = policy.route_for(self.policy, person, holder, wish.resource, wish.role)
            if isinstance(route, Refusal):
                route = self.or_outdated(actor, self.or_outdated(holder.id, route, told=actor))
                return await self._refuse(tx, "submit", "", actor, via, route, now)
            if stopped := self.stopped(route.resource.name):
                return await self._refuse(tx, "submit", "", actor, via, stopped, now)
            agent = self.config.agents.get(person.id)
            if over := await over_limit(tx, agent, now, wish.duration):
                return await self._refuse(tx, "submit", "", actor, via, over, now)
            asked = for_agent(agent, wish, route.rule.usual)
            request_id = await stories.free_id(tx, self.chance, "R")
            grant_id = await stories.free_id(tx, self.chance, "G")
            decision = access.submit(route, person, asked, request_id, grant_id, now)
            if isinstance(decision, Refusal):
                return await self._refuse(tx, "submit", "", actor, via, decision, now)
            if isinstance(decision[0], RequestSubmitted):
                story = access.begin(decision[0])
                decision = (*decision, *await self._advance(tx, story, grant_id, actor, via, now))
            return await self._write(tx, None, decision, actor, via, now)

        return await self._once(("submit",), actor, via, dedupe, work)

    async def approve(
        self,
        request_id: str,
        actor: str,
        *,
        via: Via,
        reason: str = "",
        dedupe: str | None = None,
        proof: Proof | None = None,
    ) -> Result:
        """Say yes. Who may is looked up now, and so is whether the policy would still give it. A yes that
        needs a passkey and comes without `proof` is refused with the page where it is given.
        """

        async def plan(tx: AsyncConnection, story: Story, now: datetime) -> Command | Refusal:
            if changed := stale(proof, story.version):
                return changed
            everyone = self.config.directory.everyone()
            grant_id = await stories.free_id(tx, self.chance, "G")
            by, step_up = proof.by if proof else "", self.steps_up(story)
            command = access.Approve(actor, everyone, grant_id, reason, by, step_up)
            decision = access.decide(story, command, now)
            grants = not isinstance(decision, Refusal) and any(
                isinstance(e, RequestApproved) for e in decision
            )
            changed = still_allowed(self.policy, story, everyone) if grants else None
            return self.or_outdated(story.request.holder, changed, told=actor) if changed else command

        if waiting := await self.story(request_id):
            await self.look_again(*waiting.request.parties)
        result = await self._move("approve", request_id, plan, actor, via, dedupe)
        return await self._or_page(result, actor, Wanted("approve", via, request_id, reason))

    async def deny(
        self, request_id: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        await self.look_again(actor)
        command = access.Deny(actor, self.config.directory.everyone(), reason)
        return await self._move("deny", request_id, just(command), actor, via, dedupe)

    async def cancel(self, request_id: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """The requester takes the request back, or whom it is for refuses it."""
        return await self._move("cancel", request_id, just(access.Cancel(actor)), actor, via, dedupe)

    async def approve_what_waits(
        self, key: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """For a typed yes: to the extension where one waits, else to the request."""
        if await self.extension_waits(key):
            return await self.approve_extension(key, actor, via=via, reason=reason, dedupe=dedupe)
        return await self.approve(key, actor, via=via, reason=reason, dedupe=dedupe)

    async def deny_what_waits(
        self, key: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """For a typed no: the same."""
        if await self.extension_waits(key):
            return await self.deny_extension(key, actor, via=via, reason=reason, dedupe=dedupe)
        return await self.deny(key, actor, via=via, reason=reason, dedupe=dedupe)

    # ------------------------------------------------------------- grants

    async def release(self, key: str, actor: str, *, via: Via, dedupe: str | None = None) -> Result:
        """The holder gives the grant back. `key` is a grant id or a request id."""
        return await self._move("release", key, just(access.Release(actor)), actor, via, dedupe)

    async def revoke(
        self, key: str, actor: str, *, via: Via, reason: str = "", dedupe: str | None = None
    ) -> Result:
        """An approver or an administrator ends the grant. `key` is a grant id or a request id."""
        await self.look_again(actor)
        everyone = self.config.directory.everyone()
        command = access.Revoke(actor, everyone, reason, as_admin=self.is_admin(actor))
        return await self._move("revoke", key, just(command), actor, via, dedupe)

    async def confirm_hold(self, grant_id: str, gate: str) -> Result:
        """A gate holds the grant. Counts only once the login is ready."""

        async def plan(tx: AsyncConnection, _story: Story, _now: datetime) -> Command | Refusal:
            if await credentials.ready(tx, grant_id) is None:
                return Refusal("not-ready", f"The login for {grant_id} is not ready.")
            return access.ConfirmHold(gate)

        return await self._move("hold", grant_id, plan, gate, "gate", None)

    async def fail_grant(self, grant_id: str, why: str) -> Result:
        """The login could not be made: end the grant. `why` is shown to people and holds no secret."""
        return await self._move("fail", grant_id, just(access.FailGrant(why)), "", "system", None)

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
