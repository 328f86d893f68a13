"""Where the messages of a story are, and which deliveries have been seen; in the broker's database, so that
every replica knows both.

A place is written down before its message is posted (without a time stamp) and again after. A place without
a time stamp is therefore a message that may or may not have been posted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import and_, delete, insert, or_, select

from broker.clock import Clock
from broker.store import deliveries
from broker.store.engine import Store
from broker.store.tables import cards as t
from broker.store.tables import stories


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
            await tx.execute(delete(t).where(t.c.request_id == request_id, t.c.kind.in_(list(places))))
            await tx.execute(insert(t), _rows(request_id, places))

    async def settle(self, request_id: str, places: dict[str, Place]) -> dict[str, Place]:
        """Write down what was just posted, and answer with what stands now: where another has posted the
        same in the meantime, theirs stays.
        """
        query = select(t.c.kind, t.c.channel, t.c.ts, t.c.version).where(t.c.request_id == request_id)
        async with self._store.write() as tx:
            rows = await tx.execute(query.where(t.c.kind.in_(list(places)), t.c.ts != ""))
            theirs = {row.kind: Place(row.channel, row.ts, row.version) for row in rows}
            ours = {kind: place for kind, place in places.items() if kind not in theirs}
            await tx.execute(delete(t).where(t.c.request_id == request_id, t.c.kind.in_(list(ours))))
            if ours:
                await tx.execute(insert(t), _rows(request_id, ours))
        return ours | theirs

    async def forget(self, request_id: str, *kinds: str) -> None:
        async with self._store.write() as tx:
            await tx.execute(delete(t).where(t.c.request_id == request_id, t.c.kind.in_(kinds)))

    async def request_at(self, channel: str, ts: str) -> str | None:
        """Which request's card stands there; None where we know of none."""
        query = select(t.c.request_id).where(t.c.channel == channel, t.c.ts == ts)
        async with self._store.read() as tx:
            return (await tx.execute(query)).scalars().first()

    async def behind(self, limit: int = 100) -> list[str]:
        """Requests with a card that shows another version than the database holds."""
        is_card = or_(t.c.kind.like("card:%"), t.c.kind == "own")
        stale = and_(t.c.request_id == stories.c.request_id, t.c.version != stories.c.version, is_card)
        query = select(t.c.request_id).join(stories, stale).distinct().limit(limit)
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


def _rows(request_id: str, places: dict[str, Place]) -> list[dict[str, object]]:
    return [
        {"request_id": request_id, "kind": kind, "channel": at.channel, "ts": at.ts, "version": at.version}
        for kind, at in places.items()
    ]
