"""From a Slack user to a principal: who is let in, and in which words the others are refused.

A Slack account alone proves nothing: it must be a full, living member of our own workspace, and it must be
linked to a principal by its id. Slack is asked each time, but for answers younger than a minute.
"""

from __future__ import annotations

import asyncio
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import TROUBLE
from broker.service import Service
from workflows.model import Principal, Refusal

FRESH_SECONDS = 60.0

_ASK = "Ask whoever keeps the policy."
GUEST = Refusal("slack-guest", "Guests of this workspace cannot use this.", "Ask a full member.")
STRANGER = Refusal("slack-stranger", "Only members of this workspace can use this.", "Ask one of them.")
BOT = Refusal("slack-bot", "A bot cannot use this.", "An agent asks through the API as itself.")
GONE = Refusal("slack-deactivated", "This Slack account is deactivated.", _ASK)
UNLINKED = Refusal("slack-unlinked", "Your Slack account is not linked to anybody known here.", _ASK)
INACTIVE = Refusal("inactive", "Your account is not active.", "Ask your identity team.")
UNSURE = Refusal(
    "slack-silent", "Slack did not say who you are, so nothing was done.", "Press again shortly."
)


class People:
    def __init__(self, service: Service, client: AsyncWebClient) -> None:
        self._service = service
        self._client = client
        self._seen: dict[str, tuple[float, dict[str, Any]]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def identify(self, team: str, user: str) -> Principal | Refusal:
        """The principal behind a Slack user, or why this account cannot act."""
        try:
            account = await self._account(user)
        except TROUBLE:
            return UNSURE
        if refusal := _unfit(account, team):
            return refusal
        principal = self._service.principal_of_slack(team, user)
        if principal is None:
            return UNLINKED
        return principal if principal.active else INACTIVE

    async def _account(self, user: str) -> dict[str, Any]:
        """One question at a time about a user: many presses at once are one call."""
        async with self._asking.setdefault(user, asyncio.Lock()):
            now = self._service.clock.monotonic()
            at, account = self._seen.get(user, (0.0, {}))
            if not account or now - at >= FRESH_SECONDS:
                reply = await self._client.users_info(user=user)
                account = dict(reply["user"])
                self._seen[user] = (now, account)
            return account

    def forget(self, user: str) -> None:
        """Slack says that this account changed."""
        self._seen.pop(user, None)


def _unfit(account: dict[str, Any], team: str) -> Refusal | None:
    if account.get("deleted"):
        return GONE
    if account.get("is_bot") or account.get("is_workflow_bot") or account.get("id") == "USLACKBOT":
        return BOT
    if account.get("is_stranger") or account.get("team_id", team) != team:
        return STRANGER
    if account.get("is_restricted") or account.get("is_ultra_restricted"):
        return GUEST
    return None
