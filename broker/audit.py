"""The trail: append-only entries, each bound to the one before by SHA-256.

An entry is written in the transaction of what it tells. The head row is locked, so that entries of
concurrent transactions stand in one line without gaps. broker/trail.py signs heads and verifies the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.codec import encode
from broker.store.tables import audit as t
from broker.store.tables import audit_head
from workflows.model import Refusal

GENESIS = "0" * 64
"""What stands for the hash before the first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `body` is canonical JSON; `hash` covers everything else, with `prev`, the hash before it."""

    seq: int
    at: datetime
    kind: str
    subject: str
    actor: str
    via: str
    body: str
    prev: str
    hash: str

    def computed(self) -> str:
        """What the hash of this content must be."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        content = [self.seq, at, self.kind, self.subject, self.actor, self.via, self.body, self.prev]
        return hashlib.sha256(encode(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Note:
    """What to write: `subject` is the id it is about, `body` any value of the model, without secrets."""

    kind: str
    subject: str
    body: object


async def append(
    tx: AsyncConnection, notes: Sequence[Note], *, at: datetime, actor: str, via: str
) -> list[Entry]:
    """Write entries in the caller's transaction, in this order."""
    if not notes:
        return []
    seq, prev = (
        await tx.execute(
            select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == 1).with_for_update()
        )
    ).one()
    entries = []
    for note in notes:
        seq += 1
        entry = Entry(seq, at, note.kind, note.subject, actor, via, encode(note.body), prev, "")
        prev = entry.computed()
        entries.append(Entry(seq, at, note.kind, note.subject, actor, via, entry.body, entry.prev, prev))
    await tx.execute(insert(t), [_values(entry) for entry in entries])
    await tx.execute(update(audit_head).where(audit_head.c.id == 1).values(seq=seq, hash=prev))
    return entries


async def refused(
    tx: AsyncConnection, verb: str, subject: str, refusal: Refusal, *, at: datetime, actor: str, via: str
) -> None:
    """Write down that `verb` was refused, and why."""
    body = {"verb": verb, "code": refusal.code, "why": refusal.why}
    await append(tx, [Note("refused", subject, body)], at=at, actor=actor, via=via)


async def of_subject(tx: AsyncConnection, subject: str) -> list[Entry]:
    """Everything about one id, oldest first."""
    rows = await tx.execute(select(t).where(t.c.subject == subject).order_by(t.c.seq))
    return [Entry(*row) for row in rows]


async def newest(tx: AsyncConnection, *, before: int | None = None, limit: int = 100) -> list[Entry]:
    """The last entries, newest first, before entry `before` if given."""
    query = select(t).order_by(t.c.seq.desc()).limit(limit)
    rows = await tx.execute(query if before is None else query.where(t.c.seq < before))
    return [Entry(*row) for row in rows]


async def all_entries(
    tx: AsyncConnection, *, after: int | None = None, page: int = 1000
) -> AsyncIterator[Entry]:
    """The whole trail in its order, or what comes after an entry."""
    seen = after
    while True:
        query = select(t).order_by(t.c.seq).limit(page)
        rows = (await tx.execute(query if seen is None else query.where(t.c.seq > seen))).all()
        if not rows:
            return
        for row in rows:
            yield Entry(*row)
        seen = rows[-1].seq


def _values(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__slots__}
