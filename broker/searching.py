"""Looking for statements that were sent, over the recordings of every session that the asker may see.

There is no index to drift from the recordings or to leak beside them. The database tells which sessions may
hold what is sought (whose, where, when, whether anything was refused); their recordings are read, newest
session first, each verified as it is read. A call works for so long at most and then says where to go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broker.door import Via
from broker.reading import UNKNOWN
from broker.recordings import RecordedStatement, Recordings, Sought
from broker.service import Service
from broker.store import sessions, stories
from broker.store.sessions import SessionRecord
from workflows.model import Principal, Refusal

SECONDS = 3.0
"""How long one call looks before it answers with what it has and where to go on."""
_BATCH = 100
_READERS = ThreadPoolExecutor(2, thread_name_prefix="searching")
"""Reading is work for the machine that keeps the truth: two recordings at a time, whoever searches."""
BAD_PLACE = Refusal("no-such-place", "The search cannot go on from there.", "Begin it anew.")


@dataclass(frozen=True, slots=True)
class Search:
    """`by` is a principal, `on` a resource (or its alias); empty is anybody, anywhere. The rest is as in
    broker.recordings.Sought. `place` is where an earlier page said to go on.
    """

    by: str = ""
    on: str = ""
    like: str = ""
    since: datetime | None = None
    until: datetime | None = None
    refused: bool = False
    statement_class: str = ""
    limit: int = 50
    place: str = ""

    def sought(self) -> Sought:
        return Sought(self.like, self.since, self.until, self.refused, self.statement_class)


@dataclass(frozen=True, slots=True)
class Hit:
    """A statement, whose it was, and when it began."""

    session: SessionRecord
    at: datetime
    statement: RecordedStatement


@dataclass
class Page:
    """What was found, by session, the newest first. `missing` names sessions whose recording is not on this
    broker's disk, `broken` those whose recording is not as the gate wrote it, and how. `place` is where to
    go on; empty at the end.
    """

    hits: list[Hit] = field(default_factory=list)
    searched: int = 0
    missing: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a page begins: in `session` before its statement `below`, or with what was opened `before`."""

    session: SessionRecord | None = None
    below: int | None = None
    before: datetime | None = None


class Searching:
    """`seconds` is how long one call works."""

    def __init__(self, service: Service, recordings: Recordings, seconds: float = SECONDS) -> None:
        self._service = service
        self._recordings = recordings
        self._seconds = seconds

    async def search(self, actor: str, wish: Search, *, via: Via) -> Page | Refusal:
        """One page. That somebody looked, and for what, is written into the trail."""
        person = self._service.principal(actor)
        if person is None or not person.active:
            return UNKNOWN
        resource = self._service.policy.find(wish.on)
        wish = replace(wish, on=resource.name if resource else wish.on)
        start = await self._start(person, wish.place)
        if isinstance(start, Refusal):
            return start
        await self._service.note("statements.searched", actor, _told(wish), actor=actor, via=via)
        return await self._page(person, wish, start)

    async def _page(self, person: Principal, wish: Search, start: _Start) -> Page:
        page, until, before = Page(), time.monotonic() + self._seconds, None
        async for record, may_see in self._sessions(person, wish, start):
            if len(page.hits) >= wish.limit:
                page.place = f"{page.hits[-1].session.id}:{page.hits[-1].statement.n}"
                break
            # Only between two instants: an instant is a place that names nobody's session.
            if before is not None and before != record.opened_at and time.monotonic() >= until:
                page.place = before.isoformat()
                break
            if may_see:
                below = start.below if record is start.session else None
                sought = replace(wish.sought(), below=below)
                if await self._look(page, record, sought, wish.limit - len(page.hits)):
                    page.place = f"{record.id}:{page.hits[-1].statement.n}"
                    break
            before = record.opened_at
        return page

    async def _look(self, page: Page, record: SessionRecord, sought: Sought, most: int) -> bool:
        """Look in one recording; whether it holds more than fits on the page."""
        page.searched += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                _READERS, self._recordings.search, record.id, record.head, sought, most + 1
            )
        except LookupError:
            if record.entries:  # else nothing was written yet
                page.missing.append(record.id)
            return False
        except ValueError as error:
            page.broken[record.id] = str(error)
            return False
        for it in found.statements[:most]:
            page.hits.append(Hit(record, found.started + timedelta(seconds=it.at), it))
        return len(found.statements) > most

    async def _sessions(
        self, person: Principal, wish: Search, start: _Start
    ) -> AsyncIterator[tuple[SessionRecord, bool]]:
        """The sessions that may hold what is sought, and whether this person may see each."""
        if start.session is not None:
            yield start.session, True
        # Who is in no group decides on nothing: only their own are worth looking at.
        all_ = bool(person.groups) or self._service.reads_all(person.id)
        last, size = start.session, _BATCH
        while size == _BATCH:
            async with self._service.store.read() as tx:
                found = await sessions.page(
                    tx,
                    principal=wish.by or ("" if all_ else person.id),
                    resource=wish.on,
                    since=wish.since,
                    until=wish.until,
                    refused=wish.refused,
                    before=start.before,
                    after=last,
                    limit=_BATCH,
                )
                owned = await stories.of_grants(tx, list({record.grant_id for record in found}))
            for record in found:
                story = owned.get(record.grant_id)
                yield record, story is not None and self._service.may_see(story, person.id)
            last, size = found[-1] if found else None, len(found)

    async def _start(self, person: Principal, place: str) -> _Start | Refusal:
        """Where to go on: in a session, before one of its statements, or with those opened earlier."""
        if not place:
            return _Start()
        key, _, n = place.partition(":")
        if key.startswith("S-") and n.isdecimal() and len(n) <= 15:
            found = await self._service.session(key, person.id)
            return BAD_PLACE if isinstance(found, Refusal) else _Start(found, int(n))
        try:
            before = datetime.fromisoformat(place)
        except ValueError:
            return BAD_PLACE
        return _Start(before=before) if before.tzinfo else BAD_PLACE


def _told(wish: Search) -> dict[str, object]:
    """What the trail says of a search: the filters that were set."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name in ("by", "on", "like", "since", "until", "refused", "statement_class")
        if (value := getattr(wish, name))
    }
