"""Yeses in advance in Slack: given by a line, shown to those who decide and to whom it is for, taken back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import structlog
from slack_sdk.errors import SlackApiError

from bot.allowance_cards import allowance_card, line_of, take_back
from bot.desk import Body, Desk, Moment, refusal_text
from bot.ledger import Place
from bot.markup import Block, Blocks, code
from bot.places import Places
from bot.shown import Card, Faces
from bot.slack import NO_ENTRY, error_of
from broker.service import Service
from workflows.allowance import Allowance
from workflows.model import Refusal
from workflows.policy import Route, route

log = structlog.get_logger(__name__)

Dm = Callable[[str, int, str, str, Card], Awaitable[Place | None]]
"""Shows a card of (id, version) to a Slack user, under a kind, in their direct messages."""
_ID = re.compile(r"A-[0-9A-Z]{6,12}")


class AllowanceCourier:
    """Shows what the database holds at the moment; every call may be repeated."""

    def __init__(
        self, service: Service, places: Places, dm: Dm, refuse_shared: Callable[[str], Awaitable[None]]
    ) -> None:
        self._service = service
        self._places = places
        self._dm = dm
        self._refuse_shared = refuse_shared

    async def deliver(self, allowance_id: str) -> None:
        """Bring the cards to what the database holds now. Raises what Slack's client raises."""
        one = await self._service.allowance(allowance_id)
        if one is None:
            return
        faces, now = await faces_of(self._service, one), self._service.clock.now()
        if user := await self._service.slack_user(one.principal):
            await self._dm(one.id, one.version, user, "own", allowance_card(one, faces, "own", now, own=True))
        for index, channel in enumerate(self._channels(one)):
            kind = f"card:{index}"
            try:
                await self._refuse_shared(channel)
                card = allowance_card(one, faces, kind, now)
                await self._places.show(one.id, kind, channel, card, one.version)
            except SlackApiError as error:
                if error_of(error) not in NO_ENTRY:
                    raise
                log.error("channel_unusable", allowance=one.id, problem=error_of(error))

    def _channels(self, one: Allowance) -> list[str]:
        """Where those are who could have said so: others of them see it."""
        policy, holder = self._service.policy, self._service.principal(one.principal)
        way = route(policy, holder, one.resource, one.role) if holder else None
        groups = [quorum.group for quorum in way.rule.quorum] if isinstance(way, Route) else []
        channels = [policy.groups[group].channel for group in groups if group in policy.groups]
        return list(dict.fromkeys(filter(None, channels)))


async def faces_of(service: Service, *all_: Allowance) -> Faces:
    people = {name for one in all_ for name in (one.approver, one.principal, one.ended_by) if name}
    everyone = service.config.directory.everyone()
    return Faces(
        slack=await service.slack_users(people),
        names={p: known.name for p in people if (known := everyone.get(p))},
    )


async def rows(moment: Moment) -> list[tuple[str, Block | None]]:
    """What is allowed in advance, as lines with the way to take it back."""
    found = await moment.service.allowances_for(moment.actor)
    faces = await faces_of(moment.service, *found)
    return [(line_of(one, faces), take_back(one)) for one in found]


def said(result: Allowance | Refusal, verb: str) -> tuple[str, Blocks]:
    """The answer to a line."""
    if isinstance(result, Refusal):
        return refusal_text(result), []
    if verb == "end":
        return f"↩️ {result.id} is taken back.", []
    again = "Others whom the rule wants are still asked." if not result.used else ""
    return f"🎟️ {result.id}: your yes counts when they ask for {code(result.resource)}. {again}".strip(), []


async def end_pressed(desk: Desk, body: Body) -> None:
    """The button that takes one back."""
    moment = await desk.receive(body)
    if moment is None:
        return
    value = str((body.get("actions") or [{}])[0].get("value") or "")
    if not _ID.fullmatch(value):
        await moment.refuse(Refusal("tampered-button", "This button names no yes in advance."))
        return
    result = await moment.service.end_allowance(value, moment.actor, via="slack")
    if isinstance(result, Refusal):
        await moment.refuse(result, value, audited=True)
    else:
        await moment.say(said(result, "end")[0])
