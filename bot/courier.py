"""From the outbox to Slack: every card, thread and direct message of a story, kept equal to the database.

Work says only which request changed. What is shown is read from the database at that moment, so late,
repeated and reordered work does no harm, and hours of Slack being away end in one update a card. Rows of one
request are done one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from weakref import WeakValueDictionary

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot import digest
from bot.allowances import AllowanceCourier
from bot.cards import FOR, approver_card, ending_card, requester_card
from bot.faces import faces_of
from bot.ledger import Ledger, Place, said_kind
from bot.link_texts import account_card
from bot.markup import section
from bot.notes import Note, notes
from bot.notice_courier import NoticeCourier
from bot.notices import paged
from bot.places import Places
from bot.review_courier import ReviewCourier
from bot.seats import seats, watchers
from bot.shown import Card, Faces, metadata
from bot.sitting_courier import SittingCourier
from bot.slack import NO_DM, NO_ENTRY, TROUBLE, Pace, error_of
from broker import metrics, outbox
from broker.bus import OUTBOX
from broker.outbox import ACCOUNT, ALLOWANCE, CARD, NOTIFY, REVIEW, WATCH, Outbox, Work, backoff
from broker.recordings import Recordings
from broker.reviews import Reviews
from broker.runs import Runs
from broker.service import Service
from workflows.model import GrantState, RequestState, Story
from workflows.quorum import eligible

log = structlog.get_logger(__name__)

AGAIN = "again"
"""The payload of work that updates a card even where its version has not changed."""

_LEASE = timedelta(seconds=60)
_RECOUNT = timedelta(seconds=2)
_WATCH = timedelta(seconds=5)
_IDLE = 1.0
_SHARED_SECONDS = 60.0
_SILENT = (RequestState.CANCELLED, RequestState.LAPSED)


class Courier:
    """`run` works until it is cancelled; `drain` does what is due and returns, for tests and for shutdown."""

    def __init__(
        self,
        service: Service,
        box: Outbox,
        client: AsyncWebClient,
        ledger: Ledger,
        pace: Pace,
        *,
        public_url: str = "",
        workers: int = 4,
        sweep_seconds: float = 60.0,
        runs: Runs | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self._service = service
        self._box = box
        self._client = client
        self._ledger = ledger
        self._places = Places(client, ledger, pace)
        self._reviews = ReviewCourier(
            Reviews(service), self._places, ledger, public_url, self._dm_about, runs
        )
        self._allowances = AllowanceCourier(service, self._places, self._dm_about, self._refuse_shared)
        self._notices = NoticeCourier(service, self._places, ledger, public_url, self._seats)
        self._sittings = SittingCourier(recordings, self._places, ledger, public_url)
        self._public_url = public_url
        self._workers = workers
        self._sweep_seconds = sweep_seconds
        self._wake = asyncio.Event()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._dms: dict[str, str] = {}
        self._shared: dict[str, tuple[bool, float]] = {}

    # ------------------------------------------------------------- running

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._sweep_often())
            for _ in range(self._workers):
                group.create_task(self._work())

    async def drain(self) -> int:
        """Do everything that is due now; how much there was."""
        count = 0
        while await self.one():
            count += 1
        return count

    async def one(self) -> bool:
        """Claim one row and do it; False where there is none. The claim is kept while it takes, and two
        workers of ours take turns where a claim ran out all the same (the clock was set, say): of two who
        show one story at once the slower would put an older state over a newer one, or post twice.
        """
        work = await self._box.claim(CARD, REVIEW, NOTIFY, WATCH, ALLOWANCE, ACCOUNT, lease=_LEASE)
        if work is None:
            return False
        turn = self._turns.setdefault(work.key, asyncio.Lock())
        async with self._box.holding(work, _LEASE), turn:
            await self._do(work)
        return True

    async def _do(self, work: Work) -> None:
        try:
            if work.kind == REVIEW:
                await self._reviews.deliver(work.key)
            elif work.kind == ALLOWANCE:
                await self._allowances.deliver(work.key)
            elif work.kind == NOTIFY:
                await self._notices.deliver(work.payload)
            elif work.kind == WATCH:
                await self._look(work.payload)
            elif work.kind == ACCOUNT:
                await self._tell_account(work)
            else:
                await self.deliver(work.key, force=work.payload == AGAIN)
        except TROUBLE as trouble:
            await self._failed(work, error_of(trouble))
        except asyncio.CancelledError:
            # We are being stopped: let another, or the next start, go on at once. Where that cannot be
            # written down the claim runs out by itself; what must not happen is that we are not stopped.
            with suppress(Exception):
                await asyncio.shield(self._box.retry(work, "stopped", timedelta()))
            raise
        except Exception:
            log.exception("card_failed", request=work.key)
            await self._failed(work, "internal error")
        else:
            metrics.outbox_done.labels(work.kind).inc()
            if not await self._box.finish(work) and work.kind in (CARD, REVIEW, ALLOWANCE):
                # Our claim had run out: another may have shown something newer before we wrote over it.
                await self._again(work.key, kind=work.kind)

    async def _tell_account(self, work: Work) -> None:
        """Once, in direct messages."""
        user, card = account_card(work.payload, f"A-{work.id}")
        await self._dm_about(f"A-{work.id}", 0, user, "account", card)

    async def _failed(self, work: Work, problem: str) -> None:
        metrics.outbox_failed.labels(work.kind).inc()
        log.warning("card_delayed", request=work.key, problem=problem, attempts=work.attempts)
        await self._box.retry(work, problem, backoff(work.attempts))

    async def _work(self) -> None:
        while True:
            try:
                busy = await self.one()
            except Exception:
                log.exception("courier_stumbled")
                busy = False
            if not busy:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _IDLE)
                self._wake.clear()

    async def _listen(self) -> None:
        async for _ in self._service.bus.subscribe(OUTBOX):
            self._wake.set()

    async def _sweep_often(self) -> None:
        while True:
            try:
                await self.sweep()
                await digest.post(self._service, self._places)
            except TROUBLE as trouble:
                log.warning("card_sweep_delayed", problem=error_of(trouble))
            except Exception:
                log.exception("card_sweep_failed")
            await asyncio.sleep(self._sweep_seconds)

    async def sweep(self) -> int:
        """Look for cards that do not show what the database holds, or are gone, and have them mended."""
        stale = set(await self._ledger.behind())
        for request_id, _, place in await self._ledger.standing():
            if request_id in stale or await self._stands(place):
                continue
            stale.add(request_id)
        for request_id in stale:
            await self._again(request_id)
        statements = await self._ledger.behind_of_statements()
        for review_id in statements:
            await self._again(review_id, kind=REVIEW)
        return len(stale) + len(statements)

    async def _stands(self, place: Place) -> bool:
        try:
            return await self._places.stands(place)
        except SlackApiError as error:
            return error_of(error) not in NO_ENTRY

    async def _again(self, request_id: str, delay: timedelta = timedelta(), kind: str = CARD) -> None:
        async with self._service.store.write() as tx:
            await outbox.put(tx, kind, request_id, self._service.clock.now(), AGAIN, delay=delay)
        self._wake.set()

    async def _look(self, request_id: str) -> None:
        """See what has happened in an emergency since; in its turn among the rows of that request."""
        async with self._service.store.write() as tx:
            await outbox.put(tx, CARD, request_id, self._service.clock.now())

    async def _watch(self, request_id: str) -> None:
        """Come again soon, unless that is arranged already."""
        async with self._service.store.write() as tx:
            if not await outbox.waits(tx, WATCH, f"{request_id}:watch"):
                now = self._service.clock.now()
                await outbox.put(tx, WATCH, f"{request_id}:watch", now, request_id, delay=_WATCH)

    # ---------------------------------------------------------- delivering

    async def deliver(self, request_id: str, *, force: bool = False) -> None:
        """Bring everything that Slack shows of this request to what the database holds now."""
        story = await self._service.story(request_id)
        if story is None or story.request.statement:  # a grant for one statement is shown by its review
            return
        faces = await faces_of(self._service, story, self._public_url)
        known = await self._ledger.of(request_id)
        steps: list[Callable[[], Awaitable[None]]] = [
            partial(self._to_owner, story, faces, kind, force) for kind in _owners(story)
        ]
        if story.request.state not in _SILENT or any(kind.startswith("card:") for kind in known):
            steps += [
                partial(self._to_group, story, faces, end, group, force) for end, group in self._seats(story)
            ]
        copies = await self._copies(story, known)
        steps += [partial(self._to_person, story, faces, kind, force) for kind in copies]
        await _each(steps)
        ended = story.grant is not None and story.grant.state is GrantState.ENDED
        if ended and faces.done is not None and faces.done.open:
            await self._again(request_id, _RECOUNT)
        elif story.request.emergency and story.grant and not ended:
            await self._watch(request_id)

    def _seats(self, story: Story) -> list[tuple[str, str]]:
        return [*seats(story), *watchers(self._service.policy, story)]

    async def _copies(self, story: Story, known: Mapping[str, Place]) -> list[str]:
        """The cards in direct messages: of those who were passed over in an emergency, of whoever was paged,
        and the warnings before the end.
        """
        skipped = story.request.emergency.skipped if story.request.emergency else ()
        users = await self._users(skipped)
        shown = [kind for kind in known if kind.startswith(("ending:", "card:page:"))]
        return [*(f"card:skip:{user}" for user in users), *shown]

    async def _users(self, people: Sequence[str]) -> list[str]:
        """The Slack accounts of those of these people who have one, in their order."""
        users = await self._service.slack_users(people)
        return [users[person] for person in people if person in users]

    async def _to_person(self, story: Story, faces: Faces, kind: str, force: bool) -> None:
        if kind.startswith("ending:"):
            user = await self._service.slack_user(story.request.holder) or ""
            card = ending_card(story, faces, kind)
        else:
            user = kind.rpartition(":")[2]
            card = approver_card(story, faces, await self._seat_of(story, user), kind)
            if kind.startswith("card:page:") and story.request.state is RequestState.PENDING:
                card = replace(card, text=paged(story, faces))
        if not user or not await self._dm(story, user, kind, card, force):
            await self._ledger.forget(story.request.id, kind)

    async def _seat_of(self, story: Story, user: str) -> str:
        """The group for which this Slack user decides: the first of the quorum that they can fill."""
        people = self._service.config.directory.everyone().values()
        users = await self._service.slack_users(person.id for person in people)
        person = next((p for p in people if users.get(p.id) == user), None)
        groups = [q.group for q in story.request.quorum if person is not None and q.open_to(person)]
        return groups[0] if groups else story.request.quorum[0].group

    async def _to_group(self, story: Story, faces: Faces, end: str, group: str, force: bool) -> None:
        """The card in the group's channel and its thread; in its members' direct messages where there is
        no channel that can be used."""
        kind, channel = f"card:{end}", faces.groups[group].channel if group in faces.groups else ""
        await self._tell_if_short(story, faces, end, group)
        problem = "no_channel"
        if channel:
            try:
                await self._refuse_shared(channel)
                card = approver_card(story, faces, group, kind)
                place = await self._places.show(
                    story.request.id, kind, channel, card, story.version, force=force
                )
                await self._thread(story, faces, f"note:{end}", place)
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
                await self._refuse_shared(channel)
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
        able = [p.id for p in everyone.values() if eligible(story.request, p) and group in p.groups]
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

    async def _to_owner(self, story: Story, faces: Faces, kind: str, force: bool) -> None:
        """The card of whoever asked (`own`), or of whom it is for (`for`), and its thread."""
        owner = story.request.holder if kind == FOR else story.request.requester
        user = await self._service.slack_user(owner)
        if user is None or not await self._dm(story, user, kind, requester_card(story, faces, kind), force):
            return
        place = (await self._ledger.of(story.request.id))[kind]
        await self._thread(story, faces, f"note:{kind}", place, owner=owner)

    async def _dm(self, story: Story, user: str, kind: str, card: Card, force: bool) -> bool:
        return await self._dm_about(story.request.id, story.version, user, kind, card, force)

    async def _dm_about(
        self, key: str, version: int, user: str, kind: str, card: Card, force: bool = False
    ) -> bool:
        """Show a card in a person's direct messages; False where the person cannot be written to."""
        try:
            if user not in self._dms:
                opened = await self._client.conversations_open(users=user)
                self._dms[user] = str(opened["channel"]["id"])
            channel = self._dms[user]
            await self._places.show(key, kind, channel, card, version, force=force)
        except SlackApiError as error:
            if error_of(error) not in NO_DM:
                raise
            self._dms.pop(user, None)
            log.warning("person_unreachable", request=key, problem=error_of(error))
            return False
        return True

    async def _thread(
        self, story: Story, faces: Faces, prefix: str, place: Place, *, owner: str = ""
    ) -> None:
        """Post what the thread lacks, as one reply: after a long absence that is one message, in order. A
        comment that was written in this very thread is there already.
        """
        known = await self._ledger.of(story.request.id)
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
                await self._places.reply(story.request.id, kinds, place, text, story.version)

    async def _refuse_shared(self, channel: str) -> None:
        """Outsiders may be in a shared channel: nothing is posted there."""
        now = self._service.clock.monotonic()
        shared, until = self._shared.get(channel, (False, 0.0))
        if now >= until:
            info = await self._client.conversations_info(channel=channel)
            shared = bool(info["channel"].get("is_ext_shared"))
            self._shared[channel] = (shared, now + _SHARED_SECONDS)
        if shared:
            refusal = {"ok": False, "error": "is_ext_shared"}
            raise SlackApiError("a shared channel", refusal)  # type: ignore[no-untyped-call]


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
        except TROUBLE as trouble:
            first = first or trouble
    if first is not None:
        raise first
