"""Every card, thread and direct message of a request's story, brought to what the database holds now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog
from slack_sdk.errors import SlackApiError

from bot.cards import FOR, approver_card, ending_card, onlooker_card, requester_card
from bot.faces import faces_of
from bot.ledger import Ledger, Place, said_kind
from bot.markup import section
from bot.notes import Note, notes
from bot.notices import paged
from bot.places import Overtaken, Places
from bot.reach import Reach
from bot.seats import seats, watchers
from bot.shown import Card, Faces, metadata
from bot.sitting_courier import SittingCourier
from bot.slack import NO_ENTRY, TROUBLE, error_of
from broker import outbox
from broker.outbox import CARD, WATCH
from broker.recordings import Recordings
from broker.service import Service
from workflows.model import GrantState, RequestState, Story
from workflows.quorum import eligible

log = structlog.get_logger(__name__)

AGAIN = "again"
"""The payload of work that updates a card even where its version has not changed."""

Known = Mapping[str, Place]
"""What the ledger holds of a story, read once a delivery, after the story."""

_RECOUNT = timedelta(seconds=2)
_WATCH = timedelta(seconds=5)
_SILENT = (RequestState.CANCELLED, RequestState.LAPSED)


class StoryCourier:
    """Every call may be repeated."""

    def __init__(
        self,
        service: Service,
        places: Places,
        ledger: Ledger,
        reach: Reach,
        public_url: str,
        recordings: Recordings | None,
    ) -> None:
        self._service = service
        self._places = places
        self._ledger = ledger
        self._reach = reach
        self._public_url = public_url
        self._sittings = SittingCourier(recordings, places, ledger, public_url)

    async def deliver(self, request_id: str, *, force: bool = False) -> None:
        """Bring everything that Slack shows of this request to what the database holds now."""
        story = await self._service.story(request_id)
        if story is None or story.request.statement:  # a grant for one statement is shown by its review
            return
        faces = await faces_of(self._service, story, self._public_url)
        known = await self._ledger.of(request_id)
        steps: list[Callable[[], Awaitable[None]]] = [
            partial(self._to_owner, story, faces, known, kind, force) for kind in _owners(story)
        ]
        if story.request.state not in _SILENT or any(kind.startswith("card:") for kind in known):
            steps += [
                partial(self._to_group, story, faces, known, end, group, force)
                for end, group in self.seats(story)
            ]
        copies = await self._copies(story, known)
        seated = await self._seats_of(story) if copies else {}
        steps += [partial(self._to_person, story, faces, kind, seated, force) for kind in copies]
        await _each(steps)
        ended = story.grant is not None and story.grant.state is GrantState.ENDED
        if ended and faces.done is not None and faces.done.open:
            await self._recount(request_id)
        elif story.request.emergency and story.grant and not ended:
            await self._watch(request_id)

    async def _recount(self, request_id: str) -> None:
        """Sessions that are over are still being counted: show the card anew soon."""
        async with self._service.store.write() as tx:
            now = self._service.clock.now()
            await outbox.put(tx, CARD, request_id, now, AGAIN, delay=_RECOUNT)

    async def _watch(self, request_id: str) -> None:
        """Come again soon, unless that is arranged already."""
        async with self._service.store.write() as tx:
            if not await outbox.waits(tx, WATCH, f"{request_id}:watch"):
                now = self._service.clock.now()
                await outbox.put(tx, WATCH, f"{request_id}:watch", now, request_id, delay=_WATCH)

    def seats(self, story: Story) -> list[tuple[str, str]]:
        """The cards of a story in channels: the end of each one's kind, and its group."""
        return [*seats(story), *watchers(self._service.policy, story)]

    async def _copies(self, story: Story, known: Mapping[str, Place]) -> list[str]:
        """The cards in direct messages: of those who were passed over in an emergency or hear of it besides,
        of whoever was paged, and the warnings before the end.
        """
        emergency = story.request.emergency
        skipped = emergency.skipped if emergency else ()
        users = await self._users(skipped)
        told = await self._users(
            [name for name in emergency.told if name not in skipped] if emergency else ()
        )
        shown = [kind for kind in known if kind.startswith(("ending:", "card:page:"))]
        copies = [f"card:skip:{user}" for user in users] + [f"card:tell:{user}" for user in told]
        return [*copies, *shown]

    async def _users(self, people: Sequence[str]) -> list[str]:
        """The Slack accounts of those of these people who have one, in their order."""
        users = await self._service.slack_users(people)
        return [users[person] for person in people if person in users]

    async def _to_person(
        self, story: Story, faces: Faces, kind: str, seated: Mapping[str, str], force: bool
    ) -> None:
        if kind.startswith("ending:"):
            user = await self._service.slack_user(story.request.holder) or ""
            card = ending_card(story, faces, kind)
        elif kind.startswith("card:tell:"):
            user = kind.rpartition(":")[2]
            card = onlooker_card(story, faces, story.request.quorum[0].group, kind)
        else:
            user = kind.rpartition(":")[2]
            group = seated.get(user, story.request.quorum[0].group)
            card = approver_card(story, faces, group, kind)
            if kind.startswith("card:page:") and story.request.state is RequestState.PENDING:
                card = replace(card, text=paged(story, faces))
        if not user or not await self._dm(story, user, kind, card, force):
            await self._ledger.forget(story.request.id, kind)

    async def _seats_of(self, story: Story) -> dict[str, str]:
        """The group for which each Slack user decides: the first of the quorum that they are of."""
        seats: dict[str, str] = {}
        for person in self._service.config.directory.everyone().values():
            if group := next((q.group for q in story.request.quorum if q.open_to(person)), ""):
                seats[person.id] = group
        users = await self._service.slack_users(seats)
        return {user: seats[person] for person, user in users.items()}

    async def _to_group(
        self, story: Story, faces: Faces, known: Known, end: str, group: str, force: bool
    ) -> None:
        """The card in the group's channel and its thread; in its members' direct messages where there is
        no channel that can be used."""
        kind, channel = f"card:{end}", faces.groups[group].channel if group in faces.groups else ""
        await self._tell_if_short(story, faces, end, group)
        problem = "no_channel"
        if channel:
            try:
                await self._reach.refuse_shared(channel)
                card = approver_card(story, faces, group, kind)
                place = await self._places.show(
                    story.request.id, kind, channel, card, story.version, force=force, known=known
                )
                await self._thread(story, faces, known, f"note:{end}", place)
                if story.request.emergency:
                    await self._sittings.deliver(story, faces, end, place)
                return
            except SlackApiError as error:
                problem = error_of(error)
                if problem not in NO_ENTRY:
                    raise
        await self._to_members(story, faces, end, group, problem, force)

    async def _tell_if_short(self, story: Story, faces: Faces, end: str, group: str) -> None:
        """Where nobody is there to fill a seat, nothing is granted; the administrators hear of it."""
        told = f"short:{end}"
        lacking = next((quorum for quorum in faces.short if quorum.group == group), None)
        if lacking is None or told in await self._ledger.of(story.request.id):
            return
        body = {"group": group, "needed": lacking.needed}
        await self._service.note("approvers_missing", story.request.id, body, actor="", via="system")
        log.error("approvers_missing", request=story.request.id, group=group)
        text = (
            f"⚠️ {story.request.id} cannot be decided: too few active people of {faces.group(group)} could "
            f"say yes ({lacking.needed} needed). It lapses by itself. Put people into the group."
        )
        await self._tell_admins(story, f"adm{end}", text)
        await self._ledger.put(story.request.id, {told: Place("", "-", story.version)})

    async def _tell_admins(self, story: Story, kind: str, text: str) -> None:
        """Tell the channels of the groups that keep the policy."""
        policy = self._service.policy
        channels = [policy.groups[name].channel for name in sorted(policy.admins) if name in policy.groups]
        for index, channel in enumerate(filter(None, channels)):
            place = f"{kind}:{index}"
            card = Card(text, [section(text)], metadata(story, place))
            try:
                await self._reach.refuse_shared(channel)
                await self._places.show(story.request.id, place, channel, card, story.version)
            except SlackApiError as error:
                if error_of(error) not in NO_ENTRY:
                    raise
                log.error("admins_unreachable", request=story.request.id, problem=error_of(error))

    async def _to_members(
        self, story: Story, faces: Faces, end: str, group: str, problem: str, force: bool
    ) -> None:
        known = await self._ledger.of(story.request.id)
        everyone = self._service.config.directory.everyone()
        able = [p.id for p in everyone.values() if eligible(story.request, p, everyone) and group in p.groups]
        reached = 0
        told_already = story.request.emergency.skipped if story.request.emergency else ()
        told_users = await self._users(told_already)
        for user in await self._users(sorted(able)):
            kind = f"card:{end}:{user}"
            if user in told_users or await self._dm(
                story, user, kind, approver_card(story, faces, group, kind), force
            ):
                reached += 1
        told = f"alert:{end}"
        if told not in known:
            body = {"group": group, "problem": problem, "reached": reached}
            await self._service.note("channel_unusable", story.request.id, body, actor="", via="system")
            log.error("channel_unusable", request=story.request.id, group=group, problem=problem)
            where = f"{reached} of its members were told one by one" if reached else "nobody was told"
            text = f"⚠️ The channel of {faces.group(group)} cannot be used ({problem}); {where}."
            await self._tell_admins(story, f"chn{end}", f"{text} · {story.request.id}")
            await self._ledger.put(story.request.id, {told: Place("", "-", story.version)})
            await self._tell_owner_unreached(story, faces, group, reached)

    async def _tell_owner_unreached(self, story: Story, faces: Faces, group: str, reached: int) -> None:
        own = (await self._ledger.of(story.request.id)).get("own")
        if reached or own is None or not own.ts:
            return
        text = (
            f"⚠️ Nobody of {faces.group(group)} could be told of {story.request.id}: its channel cannot be "
            "used and no member can be reached in Slack. Tell whoever keeps the policy."
        )
        await self._places.reply(story.request.id, [f"alert:{group}"[:40]], own, text, story.version)

    async def _to_owner(self, story: Story, faces: Faces, known: Known, kind: str, force: bool) -> None:
        """The card of whoever asked (`own`), or of whom it is for (`for`), and its thread."""
        owner = story.request.holder if kind == FOR else story.request.requester
        user = await self._service.slack_user(owner)
        if user is None:
            return
        card = requester_card(story, faces, kind)
        place = await self._reach.dm(story.request.id, story.version, user, kind, card, force, known)
        if place is not None:
            await self._thread(story, faces, known, f"note:{kind}", place, owner=owner)

    async def _dm(self, story: Story, user: str, kind: str, card: Card, force: bool) -> bool:
        return await self._reach.dm(story.request.id, story.version, user, kind, card, force) is not None

    async def _thread(
        self, story: Story, faces: Faces, known: Known, prefix: str, place: Place, *, owner: str = ""
    ) -> None:
        """Post what the thread lacks, as one reply: after a long absence that is one message, in order. A
        comment that was written in this very thread is there already.
        """
        wanted = [
            note
            for note in notes(story, faces)
            if (not owner or (note.owner and note.by != owner))
            and not _written_here(note, story, known, place)
        ]
        lacking = [n for n in wanted if not known.get(f"{prefix}:{n.key}", Place("")).ts]
        unsure = [note for note in lacking if f"{prefix}:{note.key}" in known]
        for part in (unsure, [note for note in lacking if note not in unsure]):
            if part:
                kinds = [f"{prefix}:{note.key}" for note in part]
                text = "\n".join(note.text for note in part)
                await self._places.reply(story.request.id, kinds, place, text, story.version, known=known)


def _owners(story: Story) -> list[str]:
    return ["own", FOR] if story.request.beneficiary else ["own"]


def _written_here(note: Note, story: Story, known: Mapping[str, Place], place: Place) -> bool:
    if not note.by:
        return False
    comment = story.request.comments[int(note.key.removeprefix("c"))]
    return known.get(said_kind(comment.by, comment.text), Place("")).channel == place.channel


async def _each(steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do every step, so that one place that cannot be reached keeps no other waiting; then raise the first
    trouble, for the work to be done again."""
    first: BaseException | None = None
    for step in steps:
        try:
            await step()
        except (*TROUBLE, Overtaken) as trouble:
            first = first or trouble
    if first is not None:
        raise first
