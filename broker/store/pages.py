"""Which pagers were used for a request, and which of these pages are still open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import pages as t


async def sent(tx: AsyncConnection, request_id: str, pager: str, now: datetime) -> bool:
    """A page was taken. Whether it is the first one, or the first since the last was settled."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    row = insert(t).values(request_id=request_id, pager=pager, sent_at=now, settled_at=None)
    again = row.on_conflict_do_update(
        index_elements=[t.c.request_id, t.c.pager],
        set_={"sent_at": now, "settled_at": None},
        where=t.c.settled_at.is_not(None),
    )
    return (await tx.execute(again)).rowcount == 1


async def settled(tx: AsyncConnection, request_id: str, pager: str, now: datetime) -> None:
    row = (t.c.request_id == request_id) & (t.c.pager == pager)
    await tx.execute(update(t).where(row).values(settled_at=now))


async def open_of(tx: AsyncConnection, request_id: str) -> list[str]:
    """The pagers whose page for this request is open."""
    query = select(t.c.pager).where(t.c.request_id == request_id, t.c.settled_at.is_(None))
    return list((await tx.execute(query.order_by(t.c.pager))).scalars())
