"""Where a delivery from Slack becomes a moment: a known person, once, with a way to answer.

Every delivery is acknowledged first and handled after. A repeated one (the same signed request, envelope or
event again) is dropped by a table that all replicas share; its effect could not be doubled anyway, because
the service is given the same key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import structlog
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot import link_texts
from bot.ledger import Ledger
from bot.markup import Blocks, plain
from bot.people import UNLINKED, People
from bot.slack import TROUBLE, error_of
from broker.runs import Runs
from broker.service import Service
from workflows.grammar import MAX_LINE, from_slack
from workflows.model import Principal, Refusal

log = structlog.get_logger(__name__)

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Desk:
    """What every handler works with."""

    service: Service
    client: AsyncWebClient
    ledger: Ledger
    people: People
    public_url: str = ""
    runs: Runs | None = None

    async def receive(self, body: Body, *, about: str = "", channel: str = "") -> Moment | None:
        """The moment of this delivery; None where it has come before or its sender may not act, who is then
        told so. `about` is the request that it is about, for the trail; `channel` is where to answer when
        the delivery itself brings no way to.
        """
        key = key_of(body)
        if not await self.ledger.first(key):
            log.info("slack_repeated", kind=body.get("type") or body.get("command"))
            return None
        team, user = team_of(body), user_of(body)
        person = await self.people.identify(team, user)
        if isinstance(person, Refusal):
            moment = Moment(self, body, Principal(f"slack:{team}/{user}", "", ""), key, channel)
            if person is UNLINKED and self.public_url:
                await self._offer_link(moment, about)
            else:
                await moment.refuse(person, about)
            return None
        return Moment(self, body, person, key, channel)

    async def _offer_link(self, moment: Moment, about: str) -> None:
        """Somebody whose account is nobody's yet gets the way to link it; what they typed is kept."""
        await self.service.note_refused(moment.actor, about, UNLINKED, "slack")
        line = _typed(moment.body)
        try:
            secret = await self.people.offer(team_of(moment.body), moment.slack_user, line)
        except TROUBLE as trouble:
            log.warning("link_not_offered", problem=error_of(trouble))
            await moment.say(refusal_text(UNLINKED))
            return
        await moment.say(*link_texts.offer(f"{self.public_url}/link/{secret}", line))


@dataclass(frozen=True, slots=True)
class Moment:
    """One delivery by one person. `key` names the delivery, so that its effect happens once."""

    desk: Desk
    body: Body
    person: Principal
    key: str
    channel: str = ""

    @property
    def slack_user(self) -> str:
        return user_of(self.body)

    @property
    def actor(self) -> str:
        return self.person.id

    @property
    def service(self) -> Service:
        return self.desk.service

    async def say(self, text: str, blocks: Blocks | None = None, *, replace: bool = False) -> None:
        """Tell this person only: by the delivery's response URL, else in their direct messages.

        `replace` puts the answer in the place of the ephemeral message whose button was pressed.
        """
        url = self.body.get("response_url")
        try:
            if url:
                hook = AsyncWebhookClient(url, timeout=10)
                ephemeral = bool((self.body.get("container") or {}).get("is_ephemeral"))
                await hook.send(
                    text=text,
                    blocks=list(blocks) if blocks else None,
                    response_type="ephemeral",
                    replace_original=replace and ephemeral,
                )
            elif self.slack_user:
                await self._write(text, blocks)
        except TROUBLE as trouble:
            log.warning("answer_lost", problem=error_of(trouble))

    async def _write(self, text: str, blocks: Blocks | None) -> None:
        """Where there is no response URL: an ephemeral in the channel, else a direct message."""
        client, user = self.desk.client, self.slack_user
        if self.channel:
            try:
                await client.chat_postEphemeral(channel=self.channel, user=user, text=text, blocks=blocks)
                return
            except TROUBLE as trouble:
                log.info("no_ephemeral", problem=error_of(trouble))
        await client.chat_postMessage(channel=user, text=text, blocks=blocks)

    async def refuse(self, refusal: Refusal, about: str = "", *, audited: bool = False) -> None:
        """Tell the person why not and who can, and write it down unless the service has (`audited`)."""
        if not audited:
            await self.service.note_refused(self.actor, about, refusal, "slack")
        await self.say(refusal_text(refusal), link_texts.with_page(refusal) if refusal.link else None)


def refusal_text(refusal: Refusal) -> str:
    return f"⛔ {plain(str(refusal), 1500)}"


def _typed(body: Body) -> str:
    """The line that somebody typed, or pressed as a mended one; not the wish to link itself."""
    pressed = (body.get("actions") or [{}])[0]
    line = str(body.get("text") or "") if body.get("command") else ""
    if pressed.get("action_id") == "mended":
        line = str(pressed.get("value") or "")
    line = " ".join(from_slack(line).split())
    return "" if line.casefold() == "link" else line[:MAX_LINE]


def key_of(body: Body) -> str:
    """What names a delivery: the event's id or the interaction's trigger; both are Slack's and single."""
    if name := body.get("event_id") or body.get("trigger_id"):
        return str(name)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def team_of(body: Body) -> str:
    team = body.get("team") or {}
    return str(body.get("team_id") or (team.get("id") if isinstance(team, dict) else "") or "")


def user_of(body: Body) -> str:
    user = body.get("user") or (body.get("event") or {}).get("user") or {}
    return str(body.get("user_id") or (user.get("id") if isinstance(user, dict) else user) or "")
