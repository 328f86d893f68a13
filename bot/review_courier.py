"""From the outbox to Slack for held statements: one card a review in each group's channel, kept true."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from slack_sdk.errors import SlackApiError

from bot.cards import Card
from bot.faces import faces_of_review
from bot.ledger import Ledger, Place
from bot.places import Places
from bot.results import result_text
from bot.review_cards import own_card, review_card
from bot.shown import Faces
from bot.slack import NO_ENTRY, error_of
from broker.reviews import Reviews
from broker.runs import Runs
from workflows.model import StatementReview

log = structlog.get_logger(__name__)


Dm = Callable[[str, int, str, str, Card], Awaitable[Place | None]]
"""Shows a card of (id, version) to a Slack user, under a kind, in their direct messages."""


class ReviewCourier:
    """Shows what the database holds at the moment; every call may be repeated."""

    def __init__(
        self,
        reviews: Reviews,
        places: Places,
        ledger: Ledger,
        public_url: str,
        dm: Dm,
        runs: Runs | None = None,
    ) -> None:
        self._reviews = reviews
        self._places = places
        self._ledger = ledger
        self._public_url = public_url
        self._dm = dm
        self._runs = runs

    async def deliver(self, review_id: str) -> None:
        """Bring the cards to what the database holds now. Raises what Slack's client raises."""
        review = await self._reviews.find(review_id)
        if review is None:
            return
        service = self._reviews.service
        faces = await faces_of_review(service, review, self._public_url)
        if review.submitted:
            await self._to_owner(review, faces)
        for index, quorum in enumerate(review.quorum):
            group = faces.groups.get(quorum.group)
            channel, kind = group.channel if group else "", f"card:{index}"
            if not channel:
                await self._unreachable(review, quorum.group, "no_channel")
                continue
            card = review_card(review, faces, quorum.group, kind)
            try:
                await self._places.show(review.id, kind, channel, card, review.version)
            except SlackApiError as error:
                if error_of(error) not in NO_ENTRY:
                    raise
                await self._unreachable(review, quorum.group, error_of(error))
        if review.submitted:
            await self._tell_result(review)

    async def _to_owner(self, review: StatementReview, faces: Faces) -> None:
        """Whoever submitted it follows it in their direct messages."""
        if user := await self._reviews.service.slack_user(review.requester):
            await self._dm(review.id, review.version, user, "own", own_card(review, faces, "own"))

    async def _tell_result(self, review: StatementReview) -> None:
        """What came of it, once, in the thread of every card."""
        output = await self._runs.output(review.id) if self._runs else None
        if output is None:
            return
        text = result_text(review, output, self._public_url)
        for kind, place in (await self._ledger.of(review.id)).items():
            if place.ts and (kind == "own" or kind.startswith("card:")):
                await self._places.reply(review.id, [f"result:{kind}"[:40]], place, text, review.version)

    async def _unreachable(self, review: StatementReview, group: str, problem: str) -> None:
        """Nobody sees the card: say so once, in the trail and in the log. The statement goes on waiting, and
        can be decided from the command line.
        """
        told = f"alert:{group}"[:40]
        if told in await self._ledger.of(review.id):
            return
        body = {"group": group, "problem": problem}
        await self._reviews.service.note("channel_unusable", review.id, body, actor="", via="system")
        log.error("channel_unusable", review=review.id, group=group, problem=problem)
        await self._ledger.put(review.id, {told: Place("", "-", review.version)})
