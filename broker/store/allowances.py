"""Yeses in advance in the database: find, lock, insert, update."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.clock import Chance
from broker.codec import decode, encode
from broker.store.tables import allowances as t
from workflows.allowance import Allowance


async def add(tx: AsyncConnection, allowance: Allowance) -> None:
    values = {
        "id": allowance.id,
        "approver": allowance.approver,
        "principal": allowance.principal,
        "resource": allowance.resource,
        "until": allowance.until,
    }
    await tx.execute(insert(t).values(**values, ended_at=None, allowance=encode(allowance)))


async def save(tx: AsyncConnection, allowance: Allowance) -> None:
    """Over what is there; the caller holds the lock."""
    row = update(t).where(t.c.id == allowance.id)
    await tx.execute(row.values(ended_at=allowance.ended_at, allowance=encode(allowance)))


async def find(tx: AsyncConnection, allowance_id: str) -> Allowance | None:
    text = (await tx.execute(select(t.c.allowance).where(t.c.id == allowance_id))).scalar()
    return decode(text, Allowance) if text else None


async def lock(tx: AsyncConnection, allowance_id: str) -> Allowance | None:
    """The same, with the row locked until the transaction ends."""
    query = select(t.c.allowance).where(t.c.id == allowance_id).with_for_update()
    text = (await tx.execute(query)).scalar()
    return decode(text, Allowance) if text else None


async def lock_for(tx: AsyncConnection, principal: str, resource: str, now: datetime) -> list[Allowance]:
    """What is live for this person and resource, locked, the oldest first."""
    mine = (t.c.principal == principal) & (t.c.resource == resource)
    query = select(t.c.allowance).where(mine, t.c.ended_at.is_(None), t.c.until > now)
    rows = await tx.execute(query.order_by(t.c.until, t.c.id).with_for_update())
    return [decode(text, Allowance) for text in rows.scalars()]


async def live(tx: AsyncConnection, now: datetime, limit: int = 200) -> list[Allowance]:
    """Every one that is live, the one that ends first at the beginning."""
    query = select(t.c.allowance).where(t.c.ended_at.is_(None), t.c.until > now)
    rows = await tx.execute(query.order_by(t.c.until, t.c.id).limit(limit))
    return [decode(text, Allowance) for text in rows.scalars()]


async def of_person(tx: AsyncConnection, principal: str, now: datetime) -> list[Allowance]:
    """What is live and was given to this person, or by them."""
    concerns = or_(t.c.principal == principal, t.c.approver == principal)
    query = select(t.c.allowance).where(concerns, t.c.ended_at.is_(None), t.c.until > now)
    rows = await tx.execute(query.order_by(t.c.until, t.c.id))
    return [decode(text, Allowance) for text in rows.scalars()]


async def free_id(tx: AsyncConnection, chance: Chance) -> str:
    while True:
        new = chance.id("A")
        if (await tx.execute(select(t.c.id).where(t.c.id == new))).first() is None:
            return new
