"""Sealed logins in the database. What is in `sealed` only broker/credentials/seal.py can read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import credentials as t


@dataclass(frozen=True, slots=True)
class SealedLogin:
    """A login made for one grant. Usable at the target once `ready_at` is set, until `dropped_at`."""

    grant_id: str
    resource: str
    login: str
    sealed: str
    key_id: str
    made_at: datetime
    ready_at: datetime | None = None
    dropped_at: datetime | None = None


_columns = tuple(t.c[name] for name in SealedLogin.__slots__)


async def find(tx: AsyncConnection, grant_id: str, *, lock: bool = False) -> SealedLogin | None:
    query = select(*_columns).where(t.c.grant_id == grant_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return SealedLogin(*row) if row else None


async def ready(tx: AsyncConnection, grant_id: str) -> SealedLogin | None:
    """The login of a grant if it can be used now."""
    found = await find(tx, grant_id)
    return found if found and found.ready_at and not found.dropped_at else None


async def ready_of(tx: AsyncConnection, grant_ids: list[str]) -> set[str]:
    """Those of the grants whose login can be used now."""
    usable = t.c.ready_at.is_not(None) & t.c.dropped_at.is_(None)
    return set((await tx.execute(select(t.c.grant_id).where(t.c.grant_id.in_(grant_ids), usable))).scalars())


async def add(tx: AsyncConnection, login: SealedLogin) -> None:
    await tx.execute(insert(t).values(**{name: getattr(login, name) for name in SealedLogin.__slots__}))


async def reseal(tx: AsyncConnection, grant_id: str, sealed: str, key_id: str) -> None:
    """Another secret in the place of the one that was chosen."""
    values = {"sealed": sealed, "key_id": key_id}
    await tx.execute(update(t).where(t.c.grant_id == grant_id).values(**values))


async def mark_ready(tx: AsyncConnection, grant_id: str, now: datetime) -> None:
    await tx.execute(update(t).where(t.c.grant_id == grant_id).values(ready_at=now))


async def mark_dropped(tx: AsyncConnection, grant_id: str, now: datetime) -> None:
    """The login is gone; its password is forgotten."""
    await tx.execute(update(t).where(t.c.grant_id == grant_id).values(dropped_at=now, sealed=""))


async def standing(tx: AsyncConnection) -> set[str]:
    """The names of every login that is not dropped, at any target: several resources may share a server."""
    return set((await tx.execute(select(t.c.login).where(t.c.dropped_at.is_(None)))).scalars())
