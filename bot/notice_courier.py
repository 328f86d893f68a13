"""From the outbox to Slack for notices: reminders, calls, pages, warnings before the end. Each is told once.

What is told is decided from the database as it is when Slack can be reached, not when the notice was left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from bot.faces import faces_of
from bot.ledger import Ledger, Place
from bot.notices import PAGING, Saying, Where, called, saying
from bot.places import Places
from bot.shown import Faces
from broker import outbox
from broker.bus import OUTBOX
from broker.oncall import OnCallUnavailable
from broker.service import Service
from workflows.model import GrantState, Principal, RequestState, Story
from workflows.policy import StepKind
from workflows.quorum import eligible

log = structlog.get_logger(__name__)

Seats = Callable[[Story], Sequence[tuple[str, str]]]
"""The cards of a story in channels: the end of each one's kind, and its group."""


class NoticeCourier:
    """Every call may be repeated."""

    def __init__(
        self, service: Service, places: Places, ledger: Ledger, public_url: str, seats: Seats
    ) -> None:
        self._service = service
        self._places = places
        self._ledger = ledger
        self._public_url = public_url
        self._seats = seats

    async def deliver(self, payload: str) -> None:
        """Tell what is still so. Raises what Slack's client raises."""
        notice = json.loads(payload)
        story = await self._service.story(str(notice["request"]))
        if story is None:
            return
        what, left_at = str(notice["what"]), int(notice["version"])
        faces = await faces_of(self._service, story, self._public_url)
        if what == "ending":
            await self._warn(story, left_at)
        if what == StepKind.PAGE:
            await self._page(story, faces, str(notice["target"]))
        said = saying(
            story,
            faces,
            what,
            target=str(notice.get("target", "")),
            overdue=bool(notice.get("overdue")),
            problem=str(notice.get("problem", "")),
        )
        if said is not None:
            name = f"{what}:{notice.get('target', '')}" if what in PAGING else f"n{left_at}:{what}"
            await self._say(story, faces, said, name[:24])

    async def _warn(self, story: Story, left_at: int) -> None:
        """The holder hears of the end, in a message of its own, with the buttons for it."""
        user, grant = await self._service.slack_user(story.request.holder), story.grant
        if user is None or grant is None or grant.state is GrantState.ENDED or not story.request.warned:
            return
        await self._show(story, f"ending:{left_at}")

    async def _page(self, story: Story, faces: Faces, schedule: str) -> None:
        """Whoever is on call and may decide gets the card itself; where nobody is, the channel hears so."""
        if story.request.state is not RequestState.PENDING:
            return
        try:
            people = await self._service.on_call_now(schedule)
        except OnCallUnavailable as error:
            log.warning("page_unanswered", request=story.request.id, schedule=schedule, problem=str(error))
            people = []
        everyone = self._service.config.directory.everyone()
        able = [person for person in people if eligible(story.request, person, everyone)]
        for person in able:
            user = await self._service.slack_user(person.id)
            if user is not None:
                await self._show(story, f"card:page:{user}")
        if not able:
            text = f"📟 Nobody who could decide is on call for {schedule[:80]}, or it cannot be told who is."
            await self._say(story, faces, Saying(Where.APPROVERS, text, calls=True, loud=True), "n:nopage")

    async def _show(self, story: Story, kind: str) -> None:
        """Have a card in direct messages shown in its turn among the story's own cards: shown from here it
        could overtake a newer state, or be overtaken by it.
        """
        await self._ledger.wish(story.request.id, kind)
        async with self._service.store.write() as tx:
            await outbox.put(tx, outbox.CARD, story.request.id, self._service.clock.now())
        await self._service.bus.publish(OUTBOX, story.request.id)

    async def _say(self, story: Story, faces: Faces, said: Saying, name: str) -> None:
        """One reply in each thread that it is meant for: of the channels' cards, and of the copies that a
        group without a channel got one by one. Raises TimeoutError while the cards are yet to be posted.
        """
        known = await self._ledger.of(story.request.id)
        people = self._service.config.directory.everyone()
        emergency = story.request.emergency
        done = set[Place]()
        for end, group in self._seats(story):
            is_reviewers = emergency is not None and group in emergency.reviewers
            if said.where is Where.REVIEWERS and not is_reviewers:
                continue
            for kind, place in known.items():
                if not _is_card_of(kind, end) or not place.ts or place in done:
                    continue
                done.add(place)
                calls = said.calls and kind == f"card:{end}"
                text = f"{await self._call(story, faces, people, group)} {said.text}" if calls else said.text
                kinds = [f"{name}:{kind.removeprefix('card:')}"[:40]]
                await self._places.reply(
                    story.request.id, kinds, place, text.strip(), story.version, loud=said.loud
                )
        if not done and await self._cards_to_come(story.request.id):
            raise TimeoutError("the cards are yet to be posted")

    async def _cards_to_come(self, request_id: str) -> bool:
        async with self._service.store.read() as tx:
            return await outbox.is_open(tx, outbox.CARD, request_id)

    async def _call(self, story: Story, faces: Faces, people: Mapping[str, Principal], group: str) -> str:
        users = await self._service.slack_users(people)
        return called(story, replace(faces, slack=users), people, group)


def _is_card_of(kind: str, end: str) -> bool:
    """Whether a message is the card of this seat, or a copy of it in somebody's direct messages."""
    return kind == f"card:{end}" or kind.startswith(f"card:{end}:")
