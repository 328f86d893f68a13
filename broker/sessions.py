"""One session ended by itself: its grant stays, and its holder may come in again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, metrics, outbox
from broker.bus import GRANTS, OUTBOX
from broker.door import Via
from broker.reading import NO_SESSION
from broker.service import Service
from broker.store import sessions, stories
from broker.store.sessions import SessionRecord
from workflows.model import Refusal

REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Killed:
    """What the trail tells of a kill."""

    session: str
    grant: str
    reason: str


class Sessions:
    """The sessions of one broker, beside its service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def kill(
        self, session_id: str, actor: str, *, via: Via, reason: str = ""
    ) -> SessionRecord | Refusal:
        """End one session: its owner, whoever may decide on its grant, and administrators may.

        For everybody else it is as if it were not there. May be repeated; the first word stands.
        """
        reason = " ".join(reason.split())[:REASON_LENGTH]
        async with self.service.store.write() as tx:
            now = self.service.clock.now()
            found = await self._to_kill(tx, session_id, actor)
            if isinstance(found, Refusal):
                await audit.refused(tx, "kill", session_id[:40], found, at=now, actor=actor, via=via)
                metrics.refusals.labels("kill", found.code).inc()
                return found
            if found.killed_at is not None:
                return found
            await sessions.kill(tx, session_id, actor, reason, now)
            note = audit.Note("session.killed", found.request_id, Killed(found.id, found.grant_id, reason))
            await audit.append(tx, [note], at=now, actor=actor, via=via)
            await outbox.put(tx, outbox.CARD, found.request_id, now)
            killed = await sessions.find(tx, session_id)
            assert killed is not None, "it was there, and is locked"
        await self.service.bus.publish(GRANTS, found.grant_id)
        await self.service.bus.publish(OUTBOX, found.request_id)
        return killed

    async def _to_kill(self, tx: AsyncConnection, session_id: str, actor: str) -> SessionRecord | Refusal:
        record = await sessions.find(tx, session_id, lock=True)
        story = await stories.find(tx, record.request_id) if record else None
        if record is None or story is None or not self.service.takes_part(story, actor):
            return NO_SESSION
        if record.closed_at is not None:
            how = f" ({record.close_reason})" if record.close_reason else ""
            return Refusal("session-over", f"{record.id} is over already{how}.", "See what was done: replay.")
        return record
