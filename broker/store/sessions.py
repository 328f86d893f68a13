"""Sessions in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.store.tables import sessions as t
from workflows.gate import Closing, Progress


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One connection under a grant, as the broker knows it.

    `close_reason` is client, target, cut, error or lost (its gate fell silent). `entries` and `head` are how
    far the recording has come and the hash of its last entry. `killed_at` is when somebody ended this one
    session; its gate then cuts it. `device` is the login that its password came of, where that is known.
    """

    id: str
    request_id: str
    grant_id: str
    principal: str
    resource: str
    role: str
    gate: str
    protocol: str
    client: str
    opened_at: datetime
    lease_until: datetime
    closed_at: datetime | None = None
    close_reason: str = ""
    detail: str = ""
    entries: int = 0
    head: str = ""
    statements: int = 0
    refused: int = 0
    rows: int = 0
    killed_at: datetime | None = None
    killed_by: str = ""
    kill_reason: str = ""
    device: str = ""


_columns = tuple(t.c[f.name] for f in fields(SessionRecord))


async def add(tx: AsyncConnection, record: SessionRecord) -> None:
    await tx.execute(insert(t).values(**{f.name: getattr(record, f.name) for f in fields(record)}))


async def find(tx: AsyncConnection, session_id: str, *, lock: bool = False) -> SessionRecord | None:
    query = select(*_columns).where(t.c.id == session_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return SessionRecord(*row) if row else None


async def count_open(tx: AsyncConnection, grant_id: str) -> int:
    query = select(t.c.id).where(t.c.grant_id == grant_id, t.c.closed_at.is_(None))
    return len((await tx.execute(query)).all())


async def open_at(tx: AsyncConnection, gate: str, ids: Sequence[str]) -> list[SessionRecord]:
    """Those of `ids` that are open at this gate."""
    query = select(*_columns).where(t.c.id.in_(ids), t.c.gate == gate, t.c.closed_at.is_(None))
    return [SessionRecord(*row) for row in await tx.execute(query)]


async def open_of(tx: AsyncConnection, principal: str) -> list[SessionRecord]:
    """Those of this person that are open and that nobody has ended, locked."""
    alive = and_(t.c.principal == principal, t.c.closed_at.is_(None), t.c.killed_at.is_(None))
    query = select(*_columns).where(alive).order_by(t.c.id).with_for_update()
    return [SessionRecord(*row) for row in await tx.execute(query)]


async def renew(tx: AsyncConnection, progress: Sequence[Progress], lease_until: datetime) -> None:
    """Prolong leases, and store how far the recordings have come."""
    if not progress:
        return
    query = (
        update(t)
        .where(t.c.id == bindparam("session"), t.c.closed_at.is_(None))
        .values(lease_until=lease_until, entries=bindparam("said_entries"), head=bindparam("said_head"))
    )
    values = [{"session": p.session, "said_entries": p.entries, "said_head": p.head} for p in progress]
    await tx.execute(query, values)


async def kill(tx: AsyncConnection, session_id: str, actor: str, reason: str, now: datetime) -> None:
    """Mark a session to be cut; whoever comes second changes nothing."""
    row = and_(t.c.id == session_id, t.c.closed_at.is_(None), t.c.killed_at.is_(None))
    await tx.execute(update(t).where(row).values(killed_at=now, killed_by=actor, kill_reason=reason))


async def killed_at(tx: AsyncConnection, gate: str, since: datetime) -> list[SessionRecord]:
    """Sessions of this gate that were killed since then and are still open."""
    doomed = and_(t.c.killed_at >= since, t.c.gate == gate, t.c.closed_at.is_(None))
    return [SessionRecord(*row) for row in await tx.execute(select(*_columns).where(doomed))]


async def close(tx: AsyncConnection, closing: Closing, now: datetime) -> None:
    """Store a session's end; what a gate says after the session was given up as lost counts."""
    await tx.execute(
        update(t)
        .where(t.c.id == closing.session)
        .values(
            closed_at=now,
            close_reason=closing.reason,
            detail=closing.detail,
            entries=closing.entries,
            head=closing.head,
            statements=closing.statements,
            refused=closing.refused,
            rows=closing.rows,
        )
    )


async def claim_lost(tx: AsyncConnection, before: datetime, limit: int = 100) -> list[SessionRecord]:
    """Open sessions whose lease ran out before `before`, locked."""
    query = select(*_columns).where(t.c.closed_at.is_(None), t.c.lease_until < before).limit(limit)
    return [SessionRecord(*row) for row in await tx.execute(query.with_for_update(skip_locked=True))]


async def newest(
    tx: AsyncConnection, *, principal: str = "", resource: str = "", key: str = "", limit: int = 50
) -> list[SessionRecord]:
    """Newest first; `key` is a request id or a grant id."""
    query = select(*_columns).order_by(t.c.opened_at.desc()).limit(limit)
    if principal:
        query = query.where(t.c.principal == principal)
    if resource:
        query = query.where(t.c.resource == resource)
    if key:
        query = query.where((t.c.request_id == key) | (t.c.grant_id == key))
    return [SessionRecord(*row) for row in await tx.execute(query)]


async def page(
    tx: AsyncConnection,
    *,
    principal: str = "",
    resource: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    refused: bool = False,
    before: datetime | None = None,
    after: SessionRecord | None = None,
    limit: int = 100,
) -> list[SessionRecord]:
    """Sessions that were open between two instants, newest first; of those only the ones opened before
    `before`, and behind `after` in that order. Those that are known to hold no statement (with `refused`:
    none that was refused) are left out.
    """
    uncounted = or_(t.c.closed_at.is_(None), t.c.close_reason == "lost")
    counted = t.c.refused if refused else t.c.statements
    query = select(*_columns).where(or_(counted > 0, uncounted))
    if principal:
        query = query.where(t.c.principal == principal)
    if resource:
        query = query.where(t.c.resource == resource)
    if since is not None:
        query = query.where(or_(t.c.closed_at.is_(None), t.c.closed_at >= since))
    if until is not None:
        query = query.where(t.c.opened_at <= until)
    if before is not None:
        query = query.where(t.c.opened_at < before)
    if after is not None:
        earlier = and_(t.c.opened_at == after.opened_at, t.c.id < after.id)
        query = query.where(or_(t.c.opened_at < after.opened_at, earlier))
    query = query.order_by(t.c.opened_at.desc(), t.c.id.desc()).limit(limit)
    return [SessionRecord(*row) for row in await tx.execute(query)]


async def open_on(tx: AsyncConnection, resource: str, limit: int = 500) -> list[SessionRecord]:
    """Sessions on a resource that are open, oldest first."""
    here = and_(t.c.resource == resource, t.c.closed_at.is_(None))
    query = select(*_columns).where(here).order_by(t.c.opened_at, t.c.id).limit(limit)
    return [SessionRecord(*row) for row in await tx.execute(query)]
