"""Yeses in advance, through the one door: given, taken back, and used when whom they are for asks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, outbox
from broker.bus import OUTBOX
from broker.door import Via
from broker.reading import NOBODY, UNKNOWN
from broker.store import allowances, deliveries
from broker.urgency import Urgency
from workflows import allowance as rules
from workflows.access import Event
from workflows.allowance import Allow, Allowance
from workflows.model import Refusal, Story

NO_ALLOWANCE = Refusal("no-such-allowance", "There is no such yes in advance.", "See them with: allow.")


class Allowing(Urgency):
    async def allow(
        self,
        actor: str,
        holder: str,
        resource: str,
        *,
        via: Via,
        role: str = "",
        longest: timedelta | None = None,
        within: timedelta | None = None,
        reason: str = "",
        repeated: bool = False,
        dedupe: str | None = None,
    ) -> Allowance | Refusal:
        """Say yes in advance to what `holder` (a principal) will ask for. Whoever gives it must be able to
        approve it today, and counts only if they still can when it is asked.
        """
        key = deliveries.key_of(via, actor, dedupe, "allow", holder, resource) if dedupe else ""
        await self.look_again(actor, holder)
        async with self.store.write() as tx:
            await self.refresh(tx)
            now = self.clock.now()
            if key and (first := await deliveries.claim(tx, key, actor, now)):
                return first.refusal or await allowances.find(tx, first.request_id) or NO_ALLOWANCE
            person, whom = self.principal(actor), self.principal(holder)
            made: Allowance | Refusal
            if person is None:
                made = UNKNOWN
            elif whom is None:
                made = NOBODY
            else:
                new = await allowances.free_id(tx, self.chance)
                wanted = Allow(person, whom, resource, role, longest, within, reason, repeated)
                made = rules.allow(self.policy, wanted, new, now)
            if isinstance(made, Refusal):
                await self._refuse(tx, "allow", "", actor, via, made, now)
            else:
                await allowances.add(tx, made)
                await self._note_allowance(tx, "allowance.given", made, actor, via, now)
            if key:
                refusal = made if isinstance(made, Refusal) else None
                await deliveries.conclude(tx, key, "" if isinstance(made, Refusal) else made.id, refusal)
        await self.bus.publish(OUTBOX, "allowance")
        return made

    async def end_allowance(self, allowance_id: str, actor: str, *, via: Via) -> Allowance | Refusal:
        """Take a yes in advance back. What was granted by it stays, and can be revoked."""
        async with self.store.write() as tx:
            now = self.clock.now()
            found = await allowances.lock(tx, allowance_id)
            person = self.principal(actor)
            may = found and rules.may_end(found, person, self.policy, self.principal(found.principal))
            if found is None or not may:
                return await self._refuse(tx, "allow", allowance_id, actor, via, NO_ALLOWANCE, now)
            ended = rules.end(found, actor, now)
            if ended != found:
                await allowances.save(tx, ended)
                await self._note_allowance(tx, "allowance.ended", ended, actor, via, now)
        await self.bus.publish(OUTBOX, "allowance")
        return ended

    async def allowances_for(self, actor: str) -> list[Allowance]:
        """What is allowed in advance to this person or by them, and what else they may take back."""
        person, now = self.principal(actor), self.clock.now()
        async with self.store.read() as tx:
            found = await allowances.live(tx, now)
        holders = {one.principal: self.principal(one.principal) for one in found}
        return [o for o in found if rules.may_end(o, person, self.policy, holders[o.principal])]

    async def allowance(self, allowance_id: str) -> Allowance | None:
        """For our own use: whoever shows it decides to whom."""
        async with self.store.read() as tx:
            return await allowances.find(tx, allowance_id)

    async def _advance(
        self, tx: AsyncConnection, story: Story, grant_id: str, actor: str, via: Via, now: datetime
    ) -> Sequence[Event]:
        """What yeses in advance do to a request that is being made, in its own transaction."""
        request = story.request
        if not request.quorum:
            return ()
        there = await allowances.lock_for(tx, request.holder, request.resource, now)
        events, used = rules.given(story, there, self.config.directory.everyone(), grant_id, now)
        for one in used:
            spent = rules.use(one, request.id, now)
            await allowances.save(tx, spent)
            await self._note_allowance(tx, "allowance.used", spent, actor, via, now)
        return events

    async def _note_allowance(
        self, tx: AsyncConnection, kind: str, one: Allowance, actor: str, via: Via, now: datetime
    ) -> None:
        await audit.append(tx, [audit.Note(kind, one.id, one)], at=now, actor=actor, via=via)
        await outbox.put(tx, outbox.ALLOWANCE, one.id, now)
