"""Small facts about this installation, kept by name."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import settings as t


async def first(tx: AsyncConnection, name: str, value: str) -> str:
    """The fact, which becomes `value` where there is none yet: the first of several brokers decides."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    await tx.execute(insert(t).values(name=name, value=value).on_conflict_do_nothing())
    return str((await tx.execute(select(t.c.value).where(t.c.name == name))).scalar_one())


async def change(tx: AsyncConnection, name: str, value: str) -> bool:
    """Make the fact `value`. False where it was that already."""
    old = (await tx.execute(select(t.c.value).where(t.c.name == name).with_for_update())).scalar()
    if old == value:
        return False
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    query = insert(t).values(name=name, value=value)
    await tx.execute(query.on_conflict_do_update(index_elements=[t.c.name], set_={"value": value}))
    return True


async def count_up(tx: AsyncConnection, name: str) -> None:
    """Count a change, so that whoever keeps a copy of something sees that it is no longer right."""
    now = await first(tx, name, "0")
    await change(tx, name, str(int(now) + 1))


async def look(tx: AsyncConnection, name: str) -> str:
    """The fact; "" where there is none."""
    return str((await tx.execute(select(t.c.value).where(t.c.name == name))).scalar() or "")
