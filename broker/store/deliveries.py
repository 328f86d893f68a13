"""Deliveries that have had their effect: the same one again is answered with the first outcome."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.codec import decode, encode
from broker.store.tables import deliveries as t
from workflows.model import Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a delivery: a story, or a refusal."""

    request_id: str
    refusal: Refusal | None


def key_of(*parts: str) -> str:
    """A key of fixed length. The actor is a part of it, so that nobody reads another's outcome."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


async def claim(tx: AsyncConnection, key: str, actor: str, now: datetime) -> Outcome | None:
    """Take a delivery for this transaction: None where it is new, else what came of it the first time.

    Where another transaction has it in its hands this waits until that one ends.
    """
    values = {"key": key, "at": now, "actor": actor, "request_id": "", "refusal": ""}
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    taken = await tx.execute(insert(t).values(**values).on_conflict_do_nothing(index_elements=[t.c.key]))
    if taken.rowcount == 1:
        return None
    row = (await tx.execute(select(t.c.request_id, t.c.refusal).where(t.c.key == key))).one()
    return Outcome(row[0], decode(row[1], Refusal) if row[1] else None)


async def conclude(tx: AsyncConnection, key: str, request_id: str, refusal: Refusal | None) -> None:
    text = encode(refusal) if refusal else ""
    await tx.execute(update(t).where(t.c.key == key).values(request_id=request_id, refusal=text))


async def forget(tx: AsyncConnection, before: datetime) -> int:
    """Drop outcomes older than `before`; no sender repeats for so long."""
    return (await tx.execute(delete(t).where(t.c.at < before))).rowcount
