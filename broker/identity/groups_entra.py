"""Groups of a Microsoft Entra ID account that are too many for its token, asked of Microsoft Graph.

Sources: learn.microsoft.com/entra/identity-platform/id-token-claims-reference (groups, `_claim_names`,
hasgroups: the groups overage), learn.microsoft.com/graph/api/user-list-transitivememberof (the look-up, its
pages), and learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (how we are let in).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from broker.config import OidcSettings
from broker.identity.answer import LoginError

GRAPH = "https://graph.microsoft.com"
MOST_PAGES = 60
"""Of 999 groups each: no real account has more, and a wrong answer does not go round for ever."""


def overage(claims: Mapping[str, Any], claim: str) -> bool:
    """Whether the token says that there are more groups than it holds, in either of the ways that it does."""
    names = claims.get("_claim_names")
    elsewhere = isinstance(names, dict) and claim in names
    return elsewhere or claims.get("hasgroups") in (True, "true")


class EntraGroups:
    def __init__(self, settings: OidcSettings, secret: str, http: httpx2.AsyncClient) -> None:
        self._settings = settings
        self._secret = secret
        self._http = http
        source = settings.groups
        self._graph = (source.url if source and source.url else GRAPH).rstrip("/")

    async def of(self, account: str, token_endpoint: Callable[[], Awaitable[str]]) -> tuple[str, ...]:
        """The object ids of all groups of the account with this object id, those within others too.

        The address that the token names for it is not gone to: it is always the Graph of the configuration.
        """
        if not account:
            raise LoginError(
                "The identity provider tells too many groups, and not whose they are (oid).",
                "Whoever runs the identity provider adds the claim oid.",
            )
        token = await self._token(await token_endpoint())
        address = (
            f"{self._graph}/v1.0/users/{quote(account, safe='')}/transitiveMemberOf/microsoft.graph.group"
            "?$select=id&$top=999"
        )
        found: list[str] = []
        for _ in range(MOST_PAGES):
            page = await self._get(address, token)
            found += [group["id"] for group in page["value"]]
            address = page.get("@odata.nextLink", "")
            if not address:
                return tuple(found)
            if urlsplit(address)[:2] != urlsplit(self._graph)[:2]:
                raise _failed("it goes on at another address")
        raise _failed("it does not come to an end")

    async def _token(self, endpoint: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._secret,
            "scope": "https://graph.microsoft.com/.default",
        }
        try:
            answer = await self._http.post(endpoint, data=form)
            answer.raise_for_status()
            token = answer.json()["access_token"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            raise _failed("we are not let in there") from None
        if not isinstance(token, str):
            raise _failed("we are not let in there")
        return token

    async def _get(self, address: str, token: str) -> dict[str, Any]:
        try:
            answer = await self._http.get(address, headers={"Authorization": f"Bearer {token}"})
            if answer.status_code == 403:
                raise _failed("we may not read groups there (GroupMember.Read.All and User.Read.All)")
            answer.raise_for_status()
            page = answer.json()
            if not all(isinstance(group["id"], str) for group in page["value"]):
                raise ValueError
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            raise _failed("it cannot be read") from None
        return dict(page)


def _failed(why: str) -> LoginError:
    return LoginError(
        f"Your groups could not be looked up at Microsoft Graph: {why}.",
        "Try again in a minute; if it stays so, tell whoever runs this.",
    )
