"""Work that a transaction leaves behind: mint a login, drop a login, bring a card up to date.

Rows of one key are done one at a time and in their order, by whichever broker claims them. A claim ends by
itself, so work may be done twice and must not mind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import and_, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.bus import OUTBOX, Bus
from broker.clock import Chance, Clock
from broker.store.engine import Store
from broker.store.tables import outbox as t

MINT, DROP, CARD = "mint", "drop", "card"
REVIEW = "review"
"""The card of a held statement; its key is the review's id."""
RUN = "run"
"""The one run of an approved statement; the payload is its review. Its key is its own, beside the card's."""
NOTIFY = "notify"
"""Somebody is to be told; broker/wakes.py says whom and what. Its key is its own, so that a message that
cannot be sent holds up no card."""

ALLOWANCE = "allowance"
"""The card of a yes in advance; its key is the allowance's id."""
PAGE = "page"
"""A pager is to be called, or its call settled; broker/paging/worker.py does it."""
ACCOUNT = "account"
"""A Slack account is to be told about itself: it was linked or unlinked."""
WATCH = "watch"
"""Look again what goes on in an emergency; the payload is its request."""

IDLE = 1.0
"""Seconds at most between two looks for work."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed row. `attempts` counts this one too. `claim` proves that it is still ours to finish."""

    id: int
    kind: str
    key: str
    payload: str
    attempts: int
    claim: str


async def put(
    tx: AsyncConnection,
    kind: str,
    key: str,
    now: datetime,
    payload: str = "",
    *,
    delay: timedelta = timedelta(),
) -> None:
    """Leave work behind in the caller's transaction."""
    values = {"kind": kind, "key": key, "payload": payload, "created_at": now, "available_at": now + delay}
    await tx.execute(insert(t).values(attempts=0, problem="", **values))


async def tell_accounts(
    tx: AsyncConnection, users: Iterable[str], told: dict[str, str], now: datetime
) -> None:
    """Leave a message to Slack accounts about themselves; bot/link_texts.py says what `told` may hold."""
    for user in users:
        await put(tx, ACCOUNT, f"account:{user}", now, json.dumps({**told, "user": user}))


async def waits(tx: AsyncConnection, kind: str, key: str) -> bool:
    """Whether work of this kind and key is there that nobody has begun."""
    idle = and_(t.c.kind == kind, t.c.key == key, t.c.done_at.is_(None), t.c.claimed_until.is_(None))
    return (await tx.execute(select(t.c.id).where(idle).limit(1))).first() is not None


async def is_open(tx: AsyncConnection, kind: str, key: str) -> bool:
    """Whether work of this kind and key is not done yet."""
    row = and_(t.c.kind == kind, t.c.key == key, t.c.done_at.is_(None))
    return (await tx.execute(select(t.c.id).where(row).limit(1))).first() is not None


async def withdraw(tx: AsyncConnection, kind: str, key: str, now: datetime) -> None:
    """Mark work done that nobody has begun or that waits for another attempt."""
    idle = or_(t.c.claimed_until.is_(None), t.c.claimed_until <= now)
    row = and_(t.c.kind == kind, t.c.key == key, t.c.done_at.is_(None), idle)
    await tx.execute(update(t).where(row).values(done_at=now, problem="withdrawn"))


async def sweep(tx: AsyncConnection, before: datetime) -> int:
    """Delete rows done before `before`."""
    return (await tx.execute(delete(t).where(t.c.done_at < before))).rowcount


async def give_up(tx: AsyncConnection, kind: str, before: datetime, now: datetime) -> int:
    """Mark work of this kind done that nobody could do since `before`. Returns how much there was."""
    idle = or_(t.c.claimed_until.is_(None), t.c.claimed_until <= now)
    rows = and_(t.c.kind == kind, t.c.done_at.is_(None), t.c.created_at < before, idle)
    return (await tx.execute(update(t).where(rows).values(done_at=now, problem="given up"))).rowcount


class Outbox:
    """Claim, finish and retry, each in a transaction of its own."""

    def __init__(self, store: Store, clock: Clock, chance: Chance) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance

    async def claim(
        self,
        *kinds: str,
        lease: timedelta = timedelta(seconds=60),
        likely: bool = False,
        new: bool = False,
    ) -> Work | None:
        """The oldest row of these kinds that is due and whose key is free; None where there is none. Where
        there is `likely` one no look is taken before. Only of keys of which nothing was done yet where `new`.
        """
        now = self._clock.now()
        earlier = t.alias("earlier")
        blocked = exists().where(earlier.c.key == t.c.key, earlier.c.id < t.c.id, earlier.c.done_at.is_(None))
        due = and_(
            t.c.done_at.is_(None),
            t.c.kind.in_(kinds),
            t.c.available_at <= now,
            or_(t.c.claimed_until.is_(None), t.c.claimed_until <= now),
            ~blocked,
        )
        if new:
            due = and_(due, ~exists().where(earlier.c.key == t.c.key, earlier.c.done_at.is_not(None)))
        query = select(t.c.id, t.c.kind, t.c.key, t.c.payload, t.c.attempts).where(due).order_by(t.c.id)
        if not likely:  # idle workers look without taking SQLite's write lock
            async with self._store.read() as tx:
                if (await tx.execute(query.limit(1))).first() is None:
                    return None
        async with self._store.write() as tx:
            row = (await tx.execute(query.limit(1).with_for_update(skip_locked=True))).first()
            if row is None:
                return None
            claim = self._chance.token(16)
            values = {"claim": claim, "claimed_until": now + lease, "attempts": row.attempts + 1}
            await tx.execute(update(t).where(t.c.id == row.id).values(**values))
        return Work(row.id, row.kind, row.key, row.payload, row.attempts + 1, claim)

    @asynccontextmanager
    async def holding(self, work: Work, lease: timedelta) -> AsyncIterator[None]:
        """Prolong a claim while the block runs, so that it may be short: who dies is soon succeeded."""
        task = asyncio.create_task(self._prolong(work, lease))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _prolong(self, work: Work, lease: timedelta) -> None:
        row = and_(t.c.id == work.id, t.c.claim == work.claim, t.c.done_at.is_(None))
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            async with self._store.write() as tx:
                await tx.execute(update(t).where(row).values(claimed_until=self._clock.now() + lease))

    async def finish(self, work: Work) -> bool:
        """The work is done. False where the claim had run out and another may be doing it again."""
        async with self._store.write() as tx:
            return await finish(tx, work, self._clock.now())

    async def retry(self, work: Work, problem: str, delay: timedelta) -> None:
        """The work failed: let it be claimed again after `delay`. `problem` must hold no secret."""
        values = {
            "claim": None,
            "claimed_until": None,
            "available_at": self._clock.now() + delay,
            "problem": problem[:500],
        }
        async with self._store.write() as tx:
            await tx.execute(update(t).where(t.c.id == work.id, t.c.claim == work.claim).values(**values))

    async def pause(self, *kinds: str, least: float = 0.1) -> float:
        """Seconds until there may be something of these kinds to do: from `least` to IDLE."""
        due = await self.next_due(*kinds)
        wait = (due - self._clock.now()).total_seconds() if due else IDLE
        return min(max(wait, least), IDLE)

    async def next_due(self, *kinds: str) -> datetime | None:
        """When the next row of these kinds is due, or a claim on one runs out."""
        query = select(t.c.available_at, t.c.claimed_until).where(t.c.done_at.is_(None), t.c.kind.in_(kinds))
        async with self._store.read() as tx:
            rows = (await tx.execute(query)).all()
        return min((max(filter(None, row)) for row in rows), default=None)


async def finish(tx: AsyncConnection, work: Work, now: datetime) -> bool:
    """The same in the caller's transaction."""
    row = and_(t.c.id == work.id, t.c.claim == work.claim, t.c.done_at.is_(None))
    done = await tx.execute(update(t).where(row).values(done_at=now, claimed_until=None, problem=""))
    return done.rowcount == 1


async def work_off(
    name: str, bus: Bus, drain: Callable[[], Awaitable[int]], pause: Callable[[], Awaitable[float]]
) -> None:
    """Drain whenever there is work, until cancelled or the bus closes. `pause` tells for how many seconds to
    wait where nothing wakes us; `name` is for the log.
    """
    wake = bus.subscribe(OUTBOX)
    while True:
        try:
            await drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(await pause()):
                    await anext(wake)
        except StopAsyncIteration:
            return
        except Exception as error:  # the database is away; the work is still there when it is back
            log.error(f"{name}: cannot work", problem=type(error).__name__)
            await asyncio.sleep(IDLE)


def backoff(attempts: int, *, first: float = 0.5, most: float = 60.0) -> timedelta:
    """How long to wait after the nth failed attempt: doubling, with an upper end."""
    return timedelta(seconds=min(most, first * 2.0 ** min(attempts - 1, 20)))
