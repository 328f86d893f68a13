"""From recordings to the thread of an emergency: which sessions are open, and what is done in them.

A message tells everything since the last one, in few lines, so that a session with a thousand statements a
second is one message a look. Which statements a message tells is written down before it is posted: after a
crash, or a call without an answer, the same message is looked for, and posted only where it is not there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from bot import sittings
from bot.ledger import Ledger, Place
from bot.places import Places
from bot.shown import Faces, Sitting
from bot.sittings import Told
from broker.recordings import RecordedStatement, Recordings, Tail
from workflows.model import Story

log = structlog.get_logger(__name__)

_MOST_STEPS = 64
"""Blocks of one recording in one message; what is beyond goes into the next."""
_MOST_MESSAGES = 20
_MOST_SESSIONS = 50

Ranges = dict[str, tuple[int, int]]
_Thread = tuple[str, str]


@dataclass
class _Follow:
    """A recording as one thread follows it: everything up to the statement `told` was told or is left out."""

    tail: Tail
    told: int


class SittingCourier:
    """Every call may be repeated. Without `recordings` only the open sessions are shown."""

    def __init__(
        self, recordings: Recordings | None, places: Places, ledger: Ledger, public_url: str
    ) -> None:
        self._recordings = recordings
        self._places = places
        self._ledger = ledger
        self._public_url = public_url
        self._followed: dict[_Thread, dict[str, _Follow]] = {}
        self._whole: dict[_Thread, set[str]] = {}

    async def deliver(self, story: Story, faces: Faces, end: str, place: Place) -> None:
        """Bring the thread under `place` up to what happens now. Raises what Slack's client raises."""
        if faces.sittings:
            kind = f"live:{end}"
            card, version = sittings.open_card(story, faces, kind), sittings.open_version(faces)
            await self._places.show(story.request.id, kind, place.channel, card, version, parent=place)
        thread = (story.request.id, end)
        try:
            for _ in range(_MOST_MESSAGES):
                if not await self._tell(story, faces, end, place):
                    break
        except BaseException:
            self._forget(thread)  # what was read and not told is read again
            raise
        if all(it.closed_at is not None for it in faces.sittings):
            self._forget(thread)

    def _forget(self, thread: _Thread) -> None:
        for follow in self._followed.pop(thread, {}).values():
            follow.tail.close()
        self._whole.pop(thread, None)

    async def _tell(self, story: Story, faces: Faces, end: str, place: Place) -> bool:
        """Post one message; False where there is nothing to tell."""
        if self._recordings is None:
            return False
        known = await self._ledger.of(story.request.id)
        told = {
            it.id: [k for k in known if k.startswith(sittings.prefix(end, it.id))] for it in faces.sittings
        }
        unsure = {
            key: sittings.range_of(kind)
            for key, found in told.items()
            for kind in found
            if not known[kind].ts
        }
        batch = await self._read(
            story, faces, end, {key: sittings.latest(k)[1] for key, k in told.items()}, unsure
        )
        if not batch.total and not unsure:
            return False
        ranges = unsure or batch.ranges
        names = sittings.kinds(end, ranges)
        text = batch.text(self._public_url) if batch.total else "📜 Its recording is gone."
        await self._places.reply(story.request.id, names, place, text, story.version)
        old = [kind for key in ranges for kind in told[key] if kind not in names]
        if old:
            await self._ledger.forget(story.request.id, *old)
        return True

    async def _read(
        self, story: Story, faces: Faces, end: str, after: dict[str, int], exactly: Ranges
    ) -> Told:
        """What came in each session after its statement `after`; or, where a message may have been posted,
        `exactly` what that one told.
        """
        batch = Told()
        thread = (story.request.id, end)
        if exactly:
            self._forget(thread)
        for it in faces.sittings:
            if len(batch.ranges) >= _MOST_SESSIONS:
                break
            if exactly and it.id not in exactly:
                continue
            first, last = exactly.get(it.id, (after[it.id] + 1, None))
            if last is None and self._is_whole(thread, it, after[it.id]):
                continue
            try:
                await self._collect(thread, it, first, last, batch)
            except LookupError:
                continue  # not begun yet, or on another machine's disk
            except ValueError as error:
                log.error("recording_changed", session=it.id, problem=str(error))
                self._whole.setdefault(thread, set()).add(it.id)
        return batch

    def _is_whole(self, thread: _Thread, it: Sitting, told: int) -> bool:
        """Whether nothing more can come of this session."""
        counted = it.closed_at is not None and it.how != "lost" and told >= it.statements
        return counted or it.id in self._whole.get(thread, ())

    async def _collect(self, thread: _Thread, it: Sitting, first: int, last: int | None, batch: Told) -> None:
        assert self._recordings is not None
        followed = self._followed.setdefault(thread, {})
        if it.id not in followed:
            tail = await asyncio.to_thread(self._recordings.follow, it.id, from_start=True)
            followed[it.id] = _Follow(tail, first - 1)
        follow = followed[it.id]
        for _ in range(_MOST_STEPS):
            for said in await asyncio.to_thread(follow.tail.step):
                if not isinstance(said, RecordedStatement):
                    continue  # what a host's channels show is watched, not told in a thread
                if said.n > follow.told and (last is None or said.n <= last):
                    batch.add(it, said)
            if not follow.tail.behind:
                break
        follow.told = max(follow.told, batch.ranges.get(it.id, (0, 0))[1])
        ended = it.closed_at is not None and not follow.tail.behind
        if last is not None or ended:
            follow.tail.close()
            del followed[it.id]
            if last is None:
                self._whole.setdefault(thread, set()).add(it.id)
