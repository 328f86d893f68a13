"""What came of submitted statements, sealed, in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import results as t


async def put(tx: AsyncConnection, review_id: str, sealed: str, now: datetime, expires_at: datetime) -> None:
    """Keep a result, unless there is one already."""
    if await _row(tx, review_id) is None:
        values = {"review_id": review_id, "sealed": sealed, "created_at": now, "expires_at": expires_at}
        await tx.execute(insert(t).values(**values))


async def find(tx: AsyncConnection, review_id: str, now: datetime) -> str | None:
    """The sealed result; None where there is none, or none any more."""
    row = await _row(tx, review_id)
    return row.sealed if row is not None and row.expires_at > now else None


async def sweep(tx: AsyncConnection, now: datetime) -> int:
    """Delete what has expired."""
    return (await tx.execute(delete(t).where(t.c.expires_at <= now))).rowcount


async def _row(tx: AsyncConnection, review_id: str) -> Any:
    return (await tx.execute(select(t.c.sealed, t.c.expires_at).where(t.c.review_id == review_id))).first()
