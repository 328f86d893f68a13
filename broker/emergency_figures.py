"""How often the glass is broken, month by month: much of it means that the usual way is too slow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from broker.codec import decode
from broker.statistics import middle, waited
from broker.store.engine import Store
from broker.store.tables import stories as t
from workflows.model import AccessRequest, BreakGlass, RequestState, Verdict

_FEW = 3
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Often:
    """How often the glass of one resource was broken, and how long a yes of people takes there at the median:
    None where there was none in that month.
    """

    resource: str
    times: int
    usual: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Month:
    """The emergencies from `since` until `until`. `before` is how many there were in the month before,
    `asked` how many requests went the usual way. `waited` began as a request that nobody had decided. What
    was found adds up with `unreviewed`; `most` are the resources with most of them, and `drills` no
    emergencies.
    """

    since: datetime
    until: datetime
    emergencies: int = 0
    before: int = 0
    asked: int = 0
    people: int = 0
    waited: int = 0
    justified: int = 0
    not_justified: int = 0
    unreviewed: int = 0
    drills: int = 0
    most: tuple[Often, ...] = ()


async def month(store: Store, before: datetime, since: datetime, until: datetime) -> Month:
    """The figures of the month from `since` until `until`; the one before it began at `before`."""
    usual = select(func.count()).where(~t.c.emergency, t.c.created_at >= since, t.c.created_at < until)
    async with store.read() as tx:
        asked = (await tx.execute(usual)).scalar_one()
    now = await _emergencies(store, since, until)
    real = [it for it in now if not it[1].drill]
    earlier = [it for it in await _emergencies(store, before, since) if not it[1].drill]
    verdicts = Counter(glass.verdict for _, glass in real)
    often = Counter(request.resource for request, _ in real).most_common(_FEW)
    return Month(
        since=since,
        until=until,
        emergencies=len(real),
        before=len(earlier),
        asked=asked,
        people=len({request.holder for request, _ in real}),
        waited=sum(request.created_at < glass.at for request, glass in real),
        justified=verdicts[Verdict.JUSTIFIED],
        not_justified=verdicts[Verdict.NOT_JUSTIFIED],
        unreviewed=verdicts[None],
        drills=len(now) - len(real),
        most=tuple([Often(name, times, await _usual(store, name, since, until)) for name, times in often]),
    )


async def _emergencies(
    store: Store, since: datetime, until: datetime
) -> list[tuple[AccessRequest, BreakGlass]]:
    query = select(t.c.request).where(t.c.emergency, t.c.created_at >= since, t.c.created_at < until)
    async with store.read() as tx:
        rows = (await tx.execute(query)).scalars().all()
    requests = [decode(row, AccessRequest) for row in rows]
    return [(request, request.emergency) for request in requests if request.emergency is not None]


async def _usual(store: Store, resource: str, since: datetime, until: datetime) -> timedelta | None:
    """The median time to a yes of people on this resource."""
    query = select(t.c.request).where(
        t.c.resource == resource,
        t.c.request_state == RequestState.APPROVED,
        ~t.c.emergency,
        t.c.created_at >= since,
        t.c.created_at < until,
    )
    async with store.read() as tx:
        rows = (await tx.execute(query.limit(_MOST))).scalars().all()
    spans = [span for row in rows if (span := waited(decode(row, AccessRequest))) is not None]
    return middle(spans) if spans else None
