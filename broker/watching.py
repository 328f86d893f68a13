"""Watching sessions while they go on: statements as they are recorded, for those who may see the session.

The watcher reads the recording's file, at its own pace, and is unknown to the gate: it cannot slow a session.
What it may see is looked up again every second, and a watch ends with the right to it. Each session that is
watched is noted in the trail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.door import Via
from broker.recordings import RecordedScreen, RecordedStatement, Recordings, Tail
from broker.service import Service
from broker.store import sessions, stories
from broker.store.sessions import SessionRecord
from workflows.model import Principal, Refusal

LOOK_EVERY = 0.25
"""Seconds between looks at the recordings."""
RIGHTS_EVERY = 1.0
"""Seconds between looks at who may see what, and at sessions that came."""
MOST_SESSIONS = 50
MOST_WATCHERS = 64
_LATE = 8
"""Looks after which a recording that is not there, or that nobody closes, is given up."""


@dataclass(frozen=True, slots=True)
class Joined:
    """From now on this session is watched; `left_out` more are open on the resource and are not."""

    session: SessionRecord
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """A statement, and when it began."""

    session: SessionRecord
    at: datetime
    statement: RecordedStatement


@dataclass(frozen=True, slots=True)
class Shown:
    """What a channel on a host shows, as it is shown."""

    session: SessionRecord
    at: datetime
    screen: RecordedScreen


@dataclass(frozen=True, slots=True)
class Left:
    """This session is watched no longer: how it ended, or why it is not shown."""

    session: SessionRecord
    how: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing happened for a second."""


@dataclass(frozen=True, slots=True)
class Over:
    """The watch is over: nothing more comes."""

    why: str


Event = Joined | Said | Shown | Left | Beat | Over


@dataclass
class _Watched:
    """A session, its recording once that is there, and for how many looks in a row nothing could be told."""

    session: SessionRecord
    from_start: bool
    tail: Tail | None = None
    idle: int = 0
    closed: bool = False


@dataclass
class Watching:
    """The watches of one broker. `look_every` and `rights_every` are seconds."""

    service: Service
    recordings: Recordings
    look_every: float = LOOK_EVERY
    rights_every: float = RIGHTS_EVERY
    _open: int = field(default=0, init=False)

    async def one(
        self, key: str, actor: str, still: Callable[[], Awaitable[bool]], *, from_start: bool, via: Via
    ) -> AsyncIterator[Event] | Refusal:
        """Watch one session until it ends. `still` tells whether the watcher is still logged in."""
        found = await self.service.session(key, actor)
        if isinstance(found, Refusal):
            return found
        if found.closed_at is not None:
            return Refusal("session-over", f"{found.id} is over.", f"See it: access sessions replay {key}")
        return self._admitted(_Watch(self, actor, via, still, from_start, key=found.id))

    async def all_on(
        self, resource: str, actor: str, still: Callable[[], Awaitable[bool]], *, via: Via
    ) -> AsyncIterator[Event] | Refusal:
        """Watch the sessions on a resource that this person may see, and those that come, until they stop."""
        live = await self.service.who(resource, actor)
        if isinstance(live, Refusal):
            return live
        found = self.service.policy.find(resource)
        assert found is not None, "a resource that is not there was refused"
        return self._admitted(_Watch(self, actor, via, still, False, resource=found.name))

    def _admitted(self, watch: _Watch) -> AsyncIterator[Event] | Refusal:
        if self._open >= MOST_WATCHERS:
            return Refusal("too-many-watchers", "As many watch as this broker allows.", "Try again later.")
        return watch.run()

    @contextmanager
    def seat(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


class _Watch:
    """One person's watch, of the session `key` or of all on `resource`."""

    def __init__(
        self,
        watching: Watching,
        actor: str,
        via: Via,
        still: Callable[[], Awaitable[bool]],
        from_start: bool,
        *,
        key: str = "",
        resource: str = "",
    ) -> None:
        self._all = watching
        self._service = watching.service
        self._actor = actor
        self._via: Via = via
        self._still = still
        self._from_start = from_start
        self._key = key
        self._resource = resource
        self._watched: dict[str, _Watched] = {}
        self._seen: set[str] = set()
        self._began = False

    async def run(self) -> AsyncIterator[Event]:
        """What happens, until the session ends or the right to watch it."""
        loop, every = asyncio.get_running_loop(), self._all.rights_every
        next_rights, next_beat = loop.time(), loop.time() + every
        with self._all.seat(), ExitStack() as open_:
            open_.callback(self._close)
            while True:
                events: list[Event] = []
                if loop.time() >= next_rights:
                    events += await self._rights()
                    next_rights = loop.time() + every
                for it in list(self._watched.values()):
                    events += await self._look(it)
                if self._key and not self._watched and not any(isinstance(e, Over) for e in events):
                    events.append(Over("the session ended"))
                if not events and loop.time() >= next_beat:
                    events.append(Beat())
                for event in events:
                    next_beat = loop.time() + every
                    yield event
                    if isinstance(event, Over):
                        return
                behind = any(it.tail is not None and it.tail.behind for it in self._watched.values())
                await asyncio.sleep(0 if behind else self._all.look_every)

    def _close(self) -> None:
        for it in self._watched.values():
            if it.tail is not None:
                it.tail.close()

    # --- what may be seen

    async def _rights(self) -> list[Event]:
        """Bring what is watched up to what this person may see now."""
        person = self._service.principal(self._actor)
        if person is None or not person.active or not await self._still():
            return self._end("you are not logged in any more")
        found = await self._visible(person)
        if self._key and not found:
            return self._end("you may not see this session any more")
        gone = [it for key, it in self._watched.items() if key not in found]
        events: list[Event] = [self._drop(it, "you may not see it any more") for it in gone]
        for key, it in self._watched.items():
            it.closed = found[key].closed_at is not None
        # The one session was open when the watch was asked for: if it ended since, its rest is told.
        new = [
            it for key, it in found.items() if key not in self._seen and (self._key or it.closed_at is None)
        ]
        return events + await self._join(new)

    def _end(self, why: str) -> list[Event]:
        self._close()
        self._watched.clear()
        return [Over(why)]

    async def _join(self, new: list[SessionRecord]) -> list[Event]:
        """Watch these as well, as far as there is room; the trail is told first."""
        joining = new[: MOST_SESSIONS - len(self._watched)]
        for it in joining:
            await self._service.note("session.watched", it.id, {}, actor=self._actor, via=self._via)
            # One that came while we watched a resource is told from its beginning.
            late = self._from_start or bool(self._resource and self._began)
            self._watched[it.id] = _Watched(it, late, closed=it.closed_at is not None)
            self._seen.add(it.id)
        self._began = True
        return [Joined(it, len(new) - len(joining)) for it in joining]

    async def _visible(self, person: Principal) -> dict[str, SessionRecord]:
        """What is watched or could be, as far as this person may see it."""
        async with self._service.store.read() as tx:
            if self._key:
                one = await sessions.find(tx, self._key)
                found = [one] if one else []
            else:
                found = await sessions.open_on(tx, self._resource)
                shown = {it.id for it in found}
                closed = [await sessions.find(tx, key) for key in self._watched if key not in shown]
                found += [it for it in closed if it is not None]
            owned = await stories.of_grants(tx, list({it.grant_id for it in found}))
        return {
            it.id: it
            for it in found
            if (story := owned.get(it.grant_id)) and self._service.may_see(story, person.id)
        }

    # --- what was said

    async def _look(self, it: _Watched) -> list[Event]:
        """What a recording tells since the last look."""
        said: list[RecordedStatement | RecordedScreen] = []
        try:
            if it.tail is None:
                it.tail = await asyncio.to_thread(
                    self._all.recordings.follow, it.session.id, from_start=it.from_start
                )
            said = await asyncio.to_thread(it.tail.step)
        except LookupError:
            it.idle += 1
            if it.idle > _LATE:
                where = f"its recording is not on this broker's disk, but at its gate {it.session.gate}"
                return [self._drop(it, where)]
            return []
        except ValueError as error:
            return [self._drop(it, f"the recording does not hold: {error}")]
        events: list[Event] = [
            Said(it.session, self._at(it, one), one)
            if isinstance(one, RecordedStatement)
            else Shown(it.session, self._at(it, one), one)
            for one in said
        ]
        if it.tail.ended:
            events.append(self._drop(it, it.tail.ended))
        elif it.closed and not said and not it.tail.behind:
            it.idle += 1
            if it.idle > _LATE:
                events.append(self._drop(it, "lost"))
        return events

    def _at(self, it: _Watched, said: RecordedStatement | RecordedScreen) -> datetime:
        return it.session.opened_at + timedelta(seconds=said.at)

    def _drop(self, it: _Watched, how: str) -> Left:
        if it.tail is not None:
            it.tail.close()
        del self._watched[it.session.id]
        return Left(it.session, how)
