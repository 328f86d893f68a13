"""Stories in the database: find, lock, insert, update."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.clock import Chance
from broker.codec import decode, encode
from broker.store.tables import stories as t
from workflows.glass_review import owes_review
from workflows.model import AccessRequest, Grant, GrantState, RequestState, Story


class Overtaken(RuntimeError):
    """A story changed under a transaction that had not locked it. The transaction is rolled back."""


_columns = (t.c.request, t.c.grant, t.c.version)
_live = t.c.grant_state.in_([GrantState.MINTING, GrantState.ACTIVE])


async def find(tx: AsyncConnection, key: str) -> Story | None:
    """The story of a request id or a grant id."""
    return _one(await tx.execute(select(*_columns).where(_keyed(key))))


async def of_grants(tx: AsyncConnection, grant_ids: Sequence[str]) -> dict[str, Story]:
    """Stories by their grant's id."""
    found = await _all(tx, select(*_columns).where(t.c.grant_id.in_(grant_ids)))
    return {story.grant.id: story for story in found if story.grant}


async def lock(tx: AsyncConnection, key: str) -> Story | None:
    """The same, with the row locked until the transaction ends."""
    return _one(await tx.execute(select(*_columns).where(_keyed(key)).with_for_update()))


async def claim_due(tx: AsyncConnection, now: datetime, limit: int = 50) -> list[Story]:
    """Stories whose request has lapsed or whose grant has expired, locked; those another broker holds not."""
    due = or_(
        and_(_live, t.c.expiry <= now),
        and_(t.c.request_state == RequestState.PENDING, t.c.lapses_at <= now),
    )
    rows = await tx.execute(select(*_columns).where(due).limit(limit).with_for_update(skip_locked=True))
    return [_story(row) for row in rows]


async def next_deadline(tx: AsyncConnection) -> datetime | None:
    """When the next grant expires or request lapses."""
    expiry = (await tx.execute(select(func.min(t.c.expiry)).where(_live))).scalar()
    pending = t.c.request_state == RequestState.PENDING
    lapse = (await tx.execute(select(func.min(t.c.lapses_at)).where(pending))).scalar()
    return min((at for at in (expiry, lapse) if at), default=None)


async def claim_awake(tx: AsyncConnection, now: datetime, limit: int = 50) -> list[Story]:
    """Stories for which there is something to do that is no end, locked; those another broker holds not."""
    query = select(*_columns).where(t.c.wake_at <= now).limit(limit).with_for_update(skip_locked=True)
    return await _all(tx, query)


async def next_wake(tx: AsyncConnection) -> datetime | None:
    """When the next story wakes up."""
    at: datetime | None = (await tx.execute(select(func.min(t.c.wake_at)))).scalar()
    return at


async def set_wake(tx: AsyncConnection, request_id: str, at: datetime | None) -> None:
    await tx.execute(update(t).where(t.c.request_id == request_id).values(wake_at=at))


async def add(tx: AsyncConnection, story: Story, wake_at: datetime | None = None) -> None:
    await tx.execute(insert(t).values(**_values(story), wake_at=wake_at))


async def save(tx: AsyncConnection, story: Story, before: int, wake_at: datetime | None = None) -> None:
    """Store the story over version `before`. Raises Overtaken where the row is not at that version."""
    row = and_(t.c.request_id == story.request.id, t.c.version == before)
    done = await tx.execute(update(t).where(row).values(**_values(story), wake_at=wake_at))
    if done.rowcount != 1:
        raise Overtaken(f"{story.request.id} is no longer at version {before}")


async def free_id(tx: AsyncConnection, chance: Chance, prefix: str) -> str:
    """A new id that no story has."""
    while True:
        new = chance.id(prefix)
        if (await tx.execute(select(t.c.version).where(_keyed(new)))).first() is None:
            return new


async def of_requester(tx: AsyncConnection, principal: str, limit: int = 50) -> list[Story]:
    """What this person asked for, or somebody else for them, newest first."""
    mine = or_(t.c.requester == principal, t.c.holder == principal)
    query = select(*_columns).where(mine).order_by(t.c.created_at.desc()).limit(limit)
    return await _all(tx, query)


async def emergencies_of(tx: AsyncConnection, principal: str) -> list[Story]:
    """Every emergency of this person, newest first."""
    mine = and_(t.c.emergency, t.c.holder == principal)
    return await _all(tx, select(*_columns).where(mine).order_by(t.c.created_at.desc()))


async def owed_reviews(tx: AsyncConnection) -> list[Story]:
    """Emergencies that were not reviewed yet, the one that is due first at the beginning."""
    return await _all(tx, select(*_columns).where(t.c.review_due.is_not(None)).order_by(t.c.review_due))


async def lock_person(tx: AsyncConnection, principal: str) -> None:
    """Let nobody else decide on this person's emergencies until the transaction ends. (On SQLite a writing
    transaction is alone anyway.)
    """
    if tx.dialect.name == "postgresql":
        key = f"portcullis emergency {principal}"
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def pending(tx: AsyncConnection) -> list[Story]:
    """Requests that wait for a decision, oldest first."""
    query = select(*_columns).where(t.c.request_state == RequestState.PENDING).order_by(t.c.created_at)
    return await _all(tx, query)


async def live(
    tx: AsyncConnection, now: datetime, *, resource: str = "", principal: str = "", role: str = ""
) -> list[Story]:
    """Stories with a grant that is live now, the one that lasts longest first."""
    query = select(*_columns).where(_live, t.c.expiry > now).order_by(t.c.expiry.desc())
    if resource:
        query = query.where(t.c.resource == resource)
    if principal:
        query = query.where(t.c.holder == principal)
    if role:
        query = query.where(t.c.role == role)
    return [story for story in await _all(tx, query) if story.grant and story.grant.live(now)]


async def newest(tx: AsyncConnection, limit: int = 100) -> list[Story]:
    return await _all(tx, select(*_columns).order_by(t.c.created_at.desc()).limit(limit))


async def _all(tx: AsyncConnection, query: Any) -> list[Story]:
    return [_story(row) for row in await tx.execute(query)]


def _keyed(key: str) -> Any:
    return or_(t.c.request_id == key, t.c.grant_id == key)


def _one(rows: Any) -> Story | None:
    row = rows.first()
    return _story(row) if row else None


def _story(row: Any) -> Story:
    grant = decode(row.grant, Grant) if row.grant else None
    return Story(decode(row.request, AccessRequest), grant, row.version)


def _values(story: Story) -> dict[str, Any]:
    request, grant = story.request, story.grant
    return {
        "request_id": request.id,
        "grant_id": grant.id if grant else None,
        "version": story.version,
        "requester": request.requester,
        "holder": request.holder,
        "resource": request.resource,
        "role": request.role,
        "request_state": request.state,
        "grant_state": grant.state if grant else None,
        "created_at": request.created_at,
        "lapses_at": request.lapses_at,
        "expiry": grant.expiry if grant else None,
        "request": encode(request),
        "grant": encode(grant) if grant else None,
        "emergency": request.emergency is not None,
        "review_due": request.emergency.review_due if request.emergency and owes_review(story) else None,
    }
