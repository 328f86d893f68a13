"""Locks in the database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import locks as t
from broker.store.tables import sessions, tokens
from workflows.lock import Lock, LockKind

DEVICE = 16
"""How many letters of its hash name a login."""

_columns = tuple(t.c[name] for name in Lock.__slots__)


async def add(tx: AsyncConnection, lock: Lock) -> None:
    await tx.execute(insert(t).values(**{name: getattr(lock, name) for name in Lock.__slots__}))


async def standing(tx: AsyncConnection) -> list[Lock]:
    """Every lock that is on, oldest first."""
    query = select(*_columns).where(t.c.ended_at.is_(None)).order_by(t.c.made_at, t.c.id)
    return [_lock(row) for row in await tx.execute(query)]


async def find(tx: AsyncConnection, key: str) -> list[Lock]:
    """Locks that are on, by their id or by what they are on."""
    named = or_(t.c.id == key, t.c.target == key)
    if key == LockKind.EVERYTHING:
        named = or_(named, t.c.kind == LockKind.EVERYTHING)
    query = select(*_columns).where(t.c.ended_at.is_(None), named).order_by(t.c.made_at).with_for_update()
    return [_lock(row) for row in await tx.execute(query)]


async def end(tx: AsyncConnection, lock_id: str, by: str, now: datetime) -> None:
    row = (t.c.id == lock_id) & t.c.ended_at.is_(None)
    await tx.execute(update(t).where(row).values(ended_at=now, ended_by=by))


async def devices(tx: AsyncConnection, named: str) -> list[tuple[str, str]]:
    """The logins whose id begins so, also those that are over, and whose they are; two at most."""
    of_a_login = tokens.c.kind.in_(["login", "web"])
    query = select(tokens.c.hash, tokens.c.principal).where(
        tokens.c.hash.startswith(named, autoescape=True), of_a_login
    )
    return [(row.hash[:DEVICE], row.principal) for row in await tx.execute(query.limit(2))]


async def end_tokens(tx: AsyncConnection, now: datetime, *, principal: str, device: str = "") -> int:
    """End whatever this person is logged in with: all of it, or what is of one device."""
    row = (tokens.c.principal == principal) & tokens.c.ended_at.is_(None)
    if device:
        row &= or_(tokens.c.hash.startswith(device, autoescape=True), tokens.c.device == device)
    return (await tx.execute(update(tokens).where(row).values(ended_at=now, payload=""))).rowcount


async def kill_sessions(tx: AsyncConnection, lock: Lock, why: str, now: datetime) -> int:
    """Mark what is open under a lock to be cut. Returns how many sessions that were.

    Of a device's owner also those that came by a certificate, of which nobody can say from which device.
    """
    s = sessions
    row = s.c.closed_at.is_(None) & s.c.killed_at.is_(None)
    if lock.kind is LockKind.PERSON:
        row &= s.c.principal == lock.target
    elif lock.kind is LockKind.RESOURCE:
        row &= s.c.resource == lock.target
    elif lock.kind is LockKind.DEVICE:
        row &= (s.c.principal == lock.principal) & s.c.device.in_(["", lock.target])
    values = {"killed_at": now, "killed_by": lock.made_by, "kill_reason": why}
    return (await tx.execute(update(s).where(row).values(**values))).rowcount


def _lock(row: object) -> Lock:
    values = {name: getattr(row, name) for name in Lock.__slots__}
    return Lock(**{**values, "kind": LockKind(values["kind"])})
