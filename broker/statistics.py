"""How long decisions take, and what became of access: figures from the stories of the last weeks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import select

from broker.codec import decode
from broker.store.engine import Store
from broker.store.tables import sessions
from broker.store.tables import stories as t
from workflows.model import AccessRequest, EndReason, Grant, GrantState, RequestState, Story

MONTH = timedelta(days=30)
QUICK = timedelta(seconds=5)
"""A yes this soon after the asking was hardly thought about."""
_MOST = 5000


@dataclass(frozen=True, slots=True)
class Week:
    """What happened from `since` until `until`. Spans are None where nothing was decided. `quick`, `lapsed`,
    `unused` and `unreviewed` are requests, the newest first.
    """

    since: datetime
    until: datetime
    asked: int = 0
    decided: int = 0
    at_once: int = 0
    denied: int = 0
    lapsed: tuple[str, ...] = ()
    usual: timedelta | None = None
    slowest: timedelta | None = None
    """The time within which 95 of 100 were decided."""
    quick: tuple[str, ...] = ()
    ended: int = 0
    unused: tuple[str, ...] = ()
    emergencies: int = 0
    unreviewed: tuple[str, ...] = ()


async def usual_wait(store: Store, resource: str, role: str, now: datetime) -> tuple[timedelta, int] | None:
    """The median time from asking to the deciding yes in the last 30 days, and of how many; None where there
    were none.
    """
    query = select(t.c.request).where(
        t.c.resource == resource,
        t.c.role == role,
        t.c.request_state == RequestState.APPROVED,
        t.c.created_at >= now - MONTH,
    )
    async with store.read() as tx:
        rows = (await tx.execute(query.order_by(t.c.created_at.desc()).limit(200))).scalars().all()
    waits = [wait for row in rows if (wait := waited(decode(row, AccessRequest))) is not None]
    return (middle(waits), len(waits)) if waits else None


def waited(request: AccessRequest) -> timedelta | None:
    """How long a request waited for people; None where none decided it, as in an emergency."""
    if request.emergency or not request.approvals or request.closed_at is None:
        return None
    return request.closed_at - request.created_at


def middle(spans: list[timedelta]) -> timedelta:
    """The median. `spans` is not empty."""
    return timedelta(seconds=median(span.total_seconds() for span in spans))


async def week(store: Store, since: datetime, until: datetime) -> Week:
    """The figures of the stories that were asked from `since` until `until`."""
    asked = (t.c.created_at >= since) & (t.c.created_at < until)
    query = select(t.c.request, t.c.grant, t.c.version).where(asked).limit(_MOST)
    owed = select(t.c.request_id).where(t.c.review_due.is_not(None)).order_by(t.c.review_due)
    used = select(sessions.c.request_id).join(t, t.c.request_id == sessions.c.request_id).where(asked)
    async with store.read() as tx:
        rows = (await tx.execute(query)).all()
        unreviewed = tuple((await tx.execute(owed)).scalars())
        with_session = frozenset((await tx.execute(used.distinct())).scalars())
    stories = [
        Story(
            decode(row.request, AccessRequest), decode(row.grant, Grant) if row.grant else None, row.version
        )
        for row in rows
    ]
    return figures(stories, with_session, unreviewed, since, until)


def figures(
    stories: list[Story],
    with_session: frozenset[str],
    unreviewed: tuple[str, ...],
    since: datetime,
    until: datetime,
) -> Week:
    """The same from what was read. Pure."""
    stories = [s for s in stories if s.request.emergency is None or not s.request.emergency.drill]
    usual = [story for story in stories if story.request.emergency is None]
    states = [story.request.state for story in usual]
    waits = sorted(wait for story in usual if (wait := waited(story.request)) is not None)
    over = [s for s in stories if s.grant and s.grant.state is GrantState.ENDED and _was_open(s.grant)]
    return Week(
        since=since,
        until=until,
        asked=len(usual),
        decided=len(waits),
        at_once=sum(s.request.state is RequestState.APPROVED and not s.request.quorum for s in usual),
        denied=states.count(RequestState.DENIED),
        lapsed=_ids(story for story in usual if story.request.state is RequestState.LAPSED),
        usual=middle(waits) if waits else None,
        slowest=waits[-(-len(waits) * 95 // 100) - 1] if waits else None,
        quick=_ids(s for s in usual if (wait := waited(s.request)) is not None and wait < QUICK),
        ended=len(over),
        unused=_ids(story for story in over if story.request.id not in with_session),
        emergencies=len(stories) - len(usual),
        unreviewed=unreviewed,
    )


def _ids(stories: Iterable[Story]) -> tuple[str, ...]:
    newest = sorted(stories, key=lambda story: story.request.created_at, reverse=True)
    return tuple(story.request.id for story in newest)


def _was_open(grant: Grant) -> bool:
    return bool(grant.held_by) and grant.end_reason is not EndReason.FAILED
