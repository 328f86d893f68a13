"""Groups of a Google Workspace account, asked of the Directory API: Google's ID tokens hold none.

A service account with domain-wide delegation acts for an administrator who may read groups. Sources:
developers.google.com/identity/protocols/oauth2/service-account (how it is let in: a signed JWT with `sub`),
developers.google.com/admin-sdk/directory/reference/rest/v1/groups/list (the look-up, its pages).
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from broker.clock import Clock
from broker.config import OidcSettings
from broker.identity.answer import LoginError

DIRECTORY = "https://admin.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/admin.directory.group.readonly"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 (an address)
MOST_PAGES = 60
_LIFETIME = 600


class GoogleGroups:
    def __init__(self, settings: OidcSettings, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock

    async def of(self, email: str) -> tuple[str, ...]:
        """The addresses of the groups that this account is a member of."""
        source = self._settings.groups
        assert source is not None, "only a provider with groups is asked for them"
        if not email:
            raise _failed("the identity provider did not tell your address")
        token = await self._token()
        address = f"{(source.url or DIRECTORY).rstrip('/')}/admin/directory/v1/groups"
        query: dict[str, str] = {"userKey": email, "maxResults": "200"}
        found: list[str] = []
        for _ in range(MOST_PAGES):
            page = await self._get(address, query, token)
            found += [group["email"] for group in page.get("groups", [])]
            if not page.get("nextPageToken"):
                return tuple(found)
            query["pageToken"] = page["nextPageToken"]
        raise _failed("it does not come to an end")

    async def _token(self) -> str:
        source = self._settings.groups
        assert source is not None
        assert source.account is not None, "the policy file is refused without one"
        now = int(self._clock.now().timestamp())
        try:
            account = json.loads(source.account.read())
            # With another place for the API the tokens come from there, too: a test's, or a proxy's.
            usual = account.get("token_uri", TOKEN_URI)
            endpoint = f"{source.url.rstrip('/')}/token" if source.url else usual
            claims = {
                "iss": account["client_email"],
                "sub": source.admin,
                "scope": SCOPE,
                "aud": endpoint,
                "iat": now,
                "exp": now + _LIFETIME,
            }
            header = {"alg": "RS256", "kid": account["private_key_id"]}
            signed = jwt.encode(header, claims, RSAKey.import_key(account["private_key"]))
        except (LookupError, ValueError, TypeError, JoseError):
            raise _failed("the service account's key cannot be used") from None
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": signed}
        try:
            answer = await self._http.post(endpoint, data=form)
            answer.raise_for_status()
            return str(answer.json()["access_token"])
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            raise _failed("the service account is not let in (domain-wide delegation)") from None

    async def _get(self, address: str, query: dict[str, str], token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = await self._http.get(address, params=query, headers=headers)
            if answer.status_code == 403:
                raise _failed("the administrator whom it acts for may not read groups")
            answer.raise_for_status()
            page = answer.json()
            if not all(isinstance(group["email"], str) for group in page.get("groups", [])):
                raise ValueError
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            raise _failed("it cannot be read") from None
        return dict(page)


def _failed(why: str) -> LoginError:
    return LoginError(
        f"Your groups could not be looked up at Google: {why}.",
        "Try again in a minute; if it stays so, tell whoever runs this.",
    )
