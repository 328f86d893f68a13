"""What ends when an identity provider says that somebody has logged out there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker import audit, outbox
from broker.bus import GRANTS, OUTBOX
from broker.identity.answer import Logout
from broker.identity.tokens import TokenKind
from broker.service import Service
from broker.sessions import Killed
from broker.store import identities, sessions
from broker.store.sessions import SessionRecord
from broker.store.tables import tokens as t

WHY = "logged out at the identity provider"


class Ending:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def logged_out(self, logout: Logout) -> int:
        """End the logins, and cut what their people have open at the gates. Returns how many people it
        met.
        """
        service = self._service
        cut: list[SessionRecord] = []
        async with service.store.write() as tx:
            now = service.clock.now()
            people = await self._end_logins(tx, logout, now)
            for person in people:
                note = audit.Note("token.ended", person, {"why": WHY})
                await audit.append(tx, [note], at=now, actor=person, via="system")
                cut += await self._cut(tx, person, now)
        for record in cut:
            await service.bus.publish(GRANTS, record.grant_id)
            await service.bus.publish(OUTBOX, record.request_id)
        return len(people)

    async def _end_logins(self, tx: AsyncConnection, logout: Logout, now: datetime) -> list[str]:
        """Whose logins ended. Passwords for the gate that they made are good no more, either."""
        alive = t.c.ended_at.is_(None) & (t.c.expires_at > now)
        over = {"ended_at": now, "payload": ""}
        row: ColumnElement[bool]
        if logout.subject:
            bound = await identities.of_account(tx, logout.issuer, logout.subject)
            people = {bound.principal} if bound else set[str]()
            row = t.c.principal.in_(people)
        else:
            row = (t.c.origin == logout.origin) & (t.c.origin != "") & (t.c.principal != "")
            found = await tx.execute(update(t).where(alive, row).values(**over).returning(t.c.principal))
            people = {str(principal) for (principal,) in found}
            row = t.c.principal.in_(people) & (t.c.kind == TokenKind.ENTRY)
        await tx.execute(update(t).where(alive, row).values(**over))
        return sorted(people)

    async def _cut(self, tx: AsyncConnection, person: str, now: datetime) -> list[SessionRecord]:
        found = await sessions.open_of(tx, person)
        for record in found:
            await sessions.kill(tx, record.id, person, WHY, now)
            killed = audit.Note("session.killed", record.request_id, Killed(record.id, record.grant_id, WHY))
            await audit.append(tx, [killed], at=now, actor=person, via="system")
            await outbox.put(tx, outbox.CARD, record.request_id, now)
        return found
