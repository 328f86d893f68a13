"""The tokens of identity providers that bring people: listed, and ended one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, update

from broker import audit
from broker.clock import Clock
from broker.identity.tokens import TokenKind
from broker.store.engine import Store
from broker.store.tables import tokens as t

_SHOWN = 16


@dataclass(frozen=True, slots=True)
class ProviderToken:
    """`id` is the beginning of its hash: it names the token and opens nothing."""

    id: str
    name: str
    since: datetime
    until: datetime


class ProviderTokens:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def listed(self) -> list[ProviderToken]:
        """Those that are good now, oldest first."""
        query = select(t.c.hash, t.c.label, t.c.created_at, t.c.expires_at).where(self._good())
        async with self._store.read() as tx:
            rows = await tx.execute(query.order_by(t.c.created_at))
        return [ProviderToken(row.hash[:_SHOWN], *row[1:]) for row in rows]

    async def end(self, key: str, *, actor: str, via: str) -> bool:
        """End one at once. False where there is none of this id."""
        now, row = self._clock.now(), self._good() & t.c.hash.startswith(key, autoescape=True)
        async with self._store.write() as tx:
            found = (await tx.execute(select(t.c.label).where(row))).scalar()
            if found is None:
                return False
            await tx.execute(update(t).where(row).values(ended_at=now))
            note = audit.Note("scim.token_ended", found, {"token": key})
            await audit.append(tx, [note], at=now, actor=actor, via=via)
        return True

    def _good(self) -> ColumnElement[bool]:
        alive = t.c.ended_at.is_(None) & (t.c.expires_at > self._clock.now())
        return (t.c.kind == TokenKind.SCIM) & alive
