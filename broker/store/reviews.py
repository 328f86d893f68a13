"""Reviews of statements in the database: find, lock, insert, update."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.codec import decode, encode
from broker.store.stories import Overtaken
from broker.store.tables import reviews as t
from broker.store.tables import sessions, stories
from workflows.model import GrantState, ReviewState, StatementReview

OPEN = (ReviewState.PENDING, ReviewState.APPROVED)
UNTOLD = timedelta(minutes=1)
"""How long a gate has to tell what came of a statement after its session."""
DECIDED = (ReviewState.APPROVED, ReviewState.DENIED, ReviewState.WITHDRAWN, ReviewState.LAPSED)


async def find(tx: AsyncConnection, review_id: str) -> StatementReview | None:
    return _one(await tx.execute(select(t.c.review).where(t.c.id == review_id)))


async def lock(tx: AsyncConnection, review_id: str) -> StatementReview | None:
    """The same, with the row locked until the transaction ends."""
    return _one(await tx.execute(select(t.c.review).where(t.c.id == review_id).with_for_update()))


async def waiting(tx: AsyncConnection, session_id: str, digest: str) -> StatementReview | None:
    """The review that these bytes of this session wait for."""
    row = and_(t.c.session_id == session_id, t.c.digest == digest, t.c.state == ReviewState.PENDING)
    return _one(await tx.execute(select(t.c.review).where(row)))


async def pending(tx: AsyncConnection) -> list[StatementReview]:
    """All that wait, oldest first."""
    return await _all(tx, select(t.c.review).where(t.c.state == ReviewState.PENDING).order_by(t.c.created_at))


async def decided_at(tx: AsyncConnection, gate: str) -> list[StatementReview]:
    """Decided, not run, and of sessions that are open at this gate."""
    query = (
        select(t.c.review)
        .join(sessions, sessions.c.id == t.c.session_id)
        .where(t.c.gate == gate, t.c.state.in_(DECIDED), sessions.c.closed_at.is_(None))
    )
    return await _all(tx, query)


async def claim_over(tx: AsyncConnection, now: datetime, limit: int = 50) -> list[StatementReview]:
    """Reviews whose time is up, or whose session or grant has ended, locked. One that is running counts when
    its session has been over for `UNTOLD`.
    """
    ended = or_(stories.c.grant_state == GrantState.ENDED, stories.c.expiry <= now)
    over = or_(t.c.lapses_at <= now, sessions.c.closed_at.is_not(None), ended)
    untold = and_(t.c.state == ReviewState.RUNNING, sessions.c.closed_at <= now - UNTOLD)
    query = (
        select(t.c.review)
        .outerjoin(sessions, sessions.c.id == t.c.session_id)
        .outerjoin(stories, stories.c.request_id == t.c.request_id)
        .where(or_(and_(t.c.state.in_(OPEN), over), untold))
        .limit(limit)
        .with_for_update(of=t, skip_locked=True)
    )
    return await _all(tx, query)


async def gate_of(tx: AsyncConnection, review_id: str) -> str:
    """The gate at which the statement waits."""
    return str((await tx.execute(select(t.c.gate).where(t.c.id == review_id))).scalar() or "")


async def request_of(tx: AsyncConnection, review_id: str) -> str:
    """The access request under whose grant the statement stands."""
    return str((await tx.execute(select(t.c.request_id).where(t.c.id == review_id))).scalar() or "")


async def add(tx: AsyncConnection, review: StatementReview, *, request_id: str, gate: str) -> None:
    fixed = {
        "id": review.id,
        "requester": review.requester,
        "resource": review.resource,
        "request_id": request_id,
        "gate": gate,
        "digest": review.statement.digest,
        "created_at": review.created_at,
        "lapses_at": review.lapses_at,
    }
    await tx.execute(insert(t).values(**fixed, **_moving(review)))


async def bind(tx: AsyncConnection, review_id: str, **places: str) -> None:
    """Say where a submitted statement runs: `request_id`, `gate`."""
    await tx.execute(update(t).where(t.c.id == review_id).values(**places))


async def save(tx: AsyncConnection, review: StatementReview, before: int) -> None:
    """Store over version `before`. Raises Overtaken where the row is not at that version."""
    row = and_(t.c.id == review.id, t.c.version == before)
    done = await tx.execute(update(t).where(row).values(**_moving(review)))
    if done.rowcount != 1:
        raise Overtaken(f"{review.id} is no longer at version {before}")


def _moving(review: StatementReview) -> dict[str, Any]:
    return {
        "version": review.version,
        "state": review.state.value,
        "grant_id": review.grant_id,
        "session_id": review.session_id,
        "review": encode(review),
    }


def _one(result: Any) -> StatementReview | None:
    row = result.first()
    return decode(row.review, StatementReview) if row else None


async def _all(tx: AsyncConnection, query: Select[Any]) -> list[StatementReview]:
    return [decode(row.review, StatementReview) for row in await tx.execute(query)]
