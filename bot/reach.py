"""Who and what can be written to: people, in their direct messages, and channels that no outsider is in."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.ledger import Place
from bot.places import Places
from bot.shown import Card
from bot.slack import NO_DM, error_of
from broker.service import Service

log = structlog.get_logger(__name__)

_CLOSED_SECONDS = 60.0
_SHARED_SECONDS = 60.0


class Reach:
    def __init__(self, service: Service, client: AsyncWebClient, places: Places) -> None:
        self._service = service
        self._client = client
        self._places = places
        self._dms: dict[str, str] = {}
        self._shared: dict[str, tuple[bool, float]] = {}
        self._closed: dict[str, float] = {}
        """Until when somebody is not tried again who could not be written to."""

    async def dm(
        self,
        key: str,
        version: int,
        user: str,
        kind: str,
        card: Card,
        force: bool = False,
        known: Mapping[str, Place] | None = None,
    ) -> Place | None:
        """Show a card in a person's direct messages; None where the person cannot be written to. `known` as
        in Places.show.
        """
        now = self._service.clock.monotonic()
        if now < self._closed.get(user, 0.0):
            return None
        try:
            if user not in self._dms:
                opened = await self._client.conversations_open(users=user)
                self._dms[user] = str(opened["channel"]["id"])
            channel = self._dms[user]
            return await self._places.show(key, kind, channel, card, version, force=force, known=known)
        except SlackApiError as error:
            if error_of(error) not in NO_DM:
                raise
            self._dms.pop(user, None)
            self._closed[user] = now + _CLOSED_SECONDS
            log.warning("person_unreachable", request=key, problem=error_of(error))
            return None

    async def refuse_shared(self, channel: str) -> None:
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
