"""From a Slack user to a principal: who is let in, and in which words the others are refused.

A Slack account alone proves nothing: it must be a full, living member of our own workspace, and it must be
linked to a principal: by the policy file, or by that person after a login. Slack is asked each time, but for
answers younger than a minute.
"""

from __future__ import annotations

import asyncio
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import TROUBLE
from broker.identity.links import Account, Links
from broker.service import Service
from workflows.lock import LOCKED
from workflows.model import Principal, Refusal

FRESH_SECONDS = 60.0

_ASK = "Ask whoever keeps the policy."
GUEST = Refusal("slack-guest", "Guests of this workspace cannot use this.", "Ask a full member.")
STRANGER = Refusal("slack-stranger", "Only members of this workspace can use this.", "Ask one of them.")
BOT = Refusal("slack-bot", "A bot cannot use this.", "An agent asks through the API as itself.")
GONE = Refusal("slack-deactivated", "This Slack account is deactivated.", _ASK)
UNLINKED = Refusal(
    "slack-unlinked", "Your Slack account is not linked to anybody known here.", "Link it: /access link"
)
INACTIVE = Refusal("inactive", "Your account is not active.", "Ask your identity team.")
UNSURE = Refusal(
    "slack-silent", "Slack did not say who you are, so nothing was done.", "Press again shortly."
)


class People:
    def __init__(self, service: Service, client: AsyncWebClient) -> None:
        self._service = service
        self._client = client
        self._links = Links(service)
        self._team_name = ""
        self._seen: dict[str, tuple[float, dict[str, Any]]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def identify(self, team: str, user: str) -> Principal | Refusal:
        """The principal behind a Slack user, or why this account cannot act."""
        try:
            account = await self._account(team, user)
        except TROUBLE:
            return UNSURE
        if refusal := _unfit(account, team):
            return refusal
        principal = await self._service.principal_of_slack(team, user)
        if principal is None and self._service.config.slack.match_email:
            link = await self._links.by_email(_as_account(account, team))
            principal = self._service.principal(link.principal) if link else None
        if principal is None:
            return UNLINKED
        if principal.locked:
            return LOCKED
        return principal if principal.active else INACTIVE

    async def offer(self, team: str, user: str, line: str) -> str:
        """The secret of a link for this account, which `identify` found to be nobody's. `line` is kept.

        Raises what Slack's client raises.
        """
        if not self._team_name:
            self._team_name = str((await self._client.auth_test()).get("team") or team)
        account = _as_account(await self._account(team, user), team, self._team_name)
        return await self._links.offer(account, line)

    async def changed(self, team: str, account: dict[str, Any]) -> None:
        """Slack says how this account is now."""
        user = str(account.get("id") or "")
        self._seen.pop(user, None)
        if user:
            await self._compare(team, user, account)

    async def _compare(self, team: str, user: str, account: dict[str, Any]) -> None:
        email = str((account.get("profile") or {}).get("email") or "")
        deleted = bool(account.get("deleted"))
        await self._links.account_changed(team, user, deleted=deleted, email=email)

    async def _account(self, team: str, user: str) -> dict[str, Any]:
        """One question at a time about a user: many presses at once are one call."""
        async with self._asking.setdefault(user, asyncio.Lock()):
            now = self._service.clock.monotonic()
            at, account = self._seen.get(user, (0.0, {}))
            if not account or now - at >= FRESH_SECONDS:
                reply = await self._client.users_info(user=user)
                account = dict(reply["user"])
                self._seen[user] = (now, account)
                await self._compare(team, user, account)
            return account


def _as_account(account: dict[str, Any], team: str, team_name: str = "") -> Account:
    """The account as it is linked; an address that Slack did not confirm is as none."""
    profile = account.get("profile") or {}
    return Account(
        team=team,
        user=str(account["id"]),
        team_name=team_name,
        handle=str(account.get("name") or ""),
        name=str(profile.get("real_name") or account.get("real_name") or ""),
        email=str(profile.get("email") or "") if account.get("is_email_confirmed") is True else "",
    )


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
