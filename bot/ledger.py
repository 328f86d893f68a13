"""Where the messages of a story are, and which deliveries have been seen; in the broker's database, so that
every replica knows both.

A place is written down before its message is posted (without a time stamp) and again after. A place without
a time stamp is therefore a message that may or may not have been posted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, false, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.clock import Clock
from broker.store import deliveries
from broker.store.engine import Store
from broker.store.tables import cards as t
from broker.store.tables import reviews, stories

_is_card = or_(t.c.kind.like("card:%"), t.c.kind.like("ending:%"), t.c.kind.in_(["own", "for"]))
_NOTHING = false()


@dataclass(frozen=True, slots=True)
class Place:
    """A message: `ts` is empty while it is not known whether it was posted. `version` is what it shows."""

    channel: str
    ts: str = ""
    version: int = 0


def said_kind(by: str, text: str) -> str:
    """The kind under which it is noted where somebody wrote a comment, so that it is not repeated there."""
    return f"said:{hashlib.sha256(f'{by} {text}'.encode()).hexdigest()[:32]}"


class Ledger:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of(self, request_id: str) -> dict[str, Place]:
        """The places of a story by their kind."""
        query = select(t.c.kind, t.c.channel, t.c.ts, t.c.version).where(t.c.request_id == request_id)
        async with self._store.read() as tx:
            return {row.kind: Place(row.channel, row.ts, row.version) for row in await tx.execute(query)}

    async def put(self, request_id: str, places: dict[str, Place]) -> None:
        """Write places down, over what was there of the same kinds."""
        async with self._store.write() as tx:
            await _upsert(tx, request_id, places)

    async def wish(self, request_id: str, kind: str) -> None:
        """A message of this kind is to be there from now on; whoever shows the story posts it."""
        async with self._store.write() as tx:
            await _upsert(tx, request_id, {kind: Place("")}, over=_NOTHING)

    async def begin(self, request_id: str, kind: str, channel: str) -> Place:
        """Write down that a message is about to be posted, and answer with what stands there: with a time
        stamp where another has posted it in the meantime.
        """
        async with self._store.write() as tx:
            over = or_(t.c.ts == "", t.c.channel != channel)
            await _upsert(tx, request_id, {kind: Place(channel)}, over=over)
            return (await _standing(tx, request_id, [kind]))[kind]

    async def settle(self, request_id: str, places: dict[str, Place]) -> dict[str, Place]:
        """Write down what was just posted, and answer with what stands now: where another has posted the
        same in the meantime, theirs stays.
        """
        async with self._store.write() as tx:
            await _upsert(tx, request_id, places, over=t.c.ts == "")
            return await _standing(tx, request_id, list(places))

    async def forget(self, request_id: str, *kinds: str) -> None:
        async with self._store.write() as tx:
            await tx.execute(delete(t).where(t.c.request_id == request_id, t.c.kind.in_(kinds)))

    async def request_at(self, channel: str, ts: str) -> str | None:
        """Which request's card stands there; None where we know of none."""
        query = select(t.c.request_id).where(t.c.channel == channel, t.c.ts == ts)
        async with self._store.read() as tx:
            return (await tx.execute(query)).scalars().first()

    async def newest(self, request_id: str) -> int:
        """The version of this request's story in the database; 0 where it is none."""
        query = select(stories.c.version).where(stories.c.request_id == request_id)
        async with self._store.read() as tx:
            return int((await tx.execute(query)).scalar_one_or_none() or 0)

    async def behind(self, limit: int = 100) -> list[str]:
        """Requests with a card that shows another version than the database holds."""
        stale = and_(t.c.request_id == stories.c.request_id, t.c.version != stories.c.version, _is_card)
        query = select(t.c.request_id).join(stories, stale).distinct().limit(limit)
        async with self._store.read() as tx:
            return list((await tx.execute(query)).scalars())

    async def behind_of_statements(self, limit: int = 100) -> list[str]:
        """The same for the cards of statements."""
        stale = and_(t.c.request_id == reviews.c.id, t.c.version != reviews.c.version, _is_card)
        query = select(t.c.request_id).join(reviews, stale).distinct().limit(limit)
        async with self._store.read() as tx:
            return list((await tx.execute(query)).scalars())

    async def standing(self, limit: int = 20) -> list[tuple[str, str, Place]]:
        """Cards of requests that still wait or whose grant is live, newest first: request, kind, place."""
        open_ = or_(stories.c.request_state == "pending", stories.c.grant_state.in_(["minting", "active"]))
        shown = and_(t.c.request_id == stories.c.request_id, t.c.ts != "", t.c.kind.like("card:%"))
        query = select(t).join(stories, shown).where(open_).order_by(t.c.ts.desc()).limit(limit)
        async with self._store.read() as tx:
            rows = (await tx.execute(query)).all()
        return [(row.request_id, row.kind, Place(row.channel, row.ts, row.version)) for row in rows]

    async def first(self, delivery: str) -> bool:
        """Whether this delivery is seen for the first time, by any replica."""
        key = deliveries.key_of("slack-seen", delivery)
        async with self._store.write() as tx:
            seen = await deliveries.claim(tx, key, "", self._clock.now())
            return seen is None


async def _upsert(
    tx: AsyncConnection, request_id: str, places: dict[str, Place], over: ColumnElement[bool] | None = None
) -> None:
    """Write rows down; one that is there already is overwritten, or only where `over` holds of it. Atomic
    also between replicas: the database looks again at the row once it has it.
    """
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    for kind, at in sorted(places.items()):
        values = {"channel": at.channel, "ts": at.ts, "version": at.version}
        row = insert(t).values(request_id=request_id, kind=kind, **values)
        await tx.execute(
            row.on_conflict_do_update(index_elements=[t.c.request_id, t.c.kind], set_=values, where=over)
        )


async def _standing(tx: AsyncConnection, request_id: str, kinds: list[str]) -> dict[str, Place]:
    query = select(t.c.kind, t.c.channel, t.c.ts, t.c.version).where(
        t.c.request_id == request_id, t.c.kind.in_(kinds)
    )
    return {row.kind: Place(row.channel, row.ts, row.version) for row in await tx.execute(query)}
