"""When the identity provider says that somebody has logged out there: by itself, or through their browser.

Sources: OpenID Connect Back-Channel Logout 1.0, OpenID Connect Front-Channel Logout 1.0.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from broker.api.auth import P
from broker.api.login import ProviderName, logins_of
from broker.api.parts import Parts
from broker.api.shield import POLICY
from broker.identity.answer import LoginError
from broker.identity.ending import Ending
from broker.identity.people import DEFAULT

router = APIRouter(prefix="/auth/logout", tags=["login"], include_in_schema=False)

Token = Annotated[str, Form(alias="logout_token", min_length=20, max_length=16_000)]
Said = Annotated[str, Query(max_length=400)]
_NO_STORE = {"Cache-Control": "no-store"}


@router.post("", response_model=None)
async def back_channel(parts: P, token: Token) -> Response:
    return await _back(parts, DEFAULT, token)


@router.post("/{provider}", response_model=None)
async def back_channel_of(provider: ProviderName, parts: P, token: Token) -> Response:
    """The provider itself says so, by a logout token."""
    return await _back(parts, provider, token)


async def _back(parts: Parts, provider: str, token: str) -> Response:
    try:
        logout = await logins_of(parts).providers.oidc(provider).logged_out(token)
    except LoginError as error:
        await parts.service.note("logout.refused", "", {"why": error.why}, actor="", via="api")
        said = {"error": "invalid_request", "error_description": error.why}
        return JSONResponse(said, 400, headers=_NO_STORE)
    await Ending(parts.service).logged_out(logout)
    return Response(status_code=200, headers=_NO_STORE)


@router.get("/front", response_model=None)
async def front_channel(parts: P, iss: Said = "", sid: Said = "") -> Response:
    return await _front(parts, DEFAULT, iss, sid)


@router.get("/{provider}/front", response_model=None)
async def front_channel_of(provider: ProviderName, parts: P, iss: Said = "", sid: Said = "") -> Response:
    """The provider's page shows this in a frame, where no cookie of ours comes along: the name of the login
    there, which only the provider and we know, is what ends it.
    """
    return await _front(parts, provider, iss, sid)


async def _front(parts: Parts, provider: str, iss: str, sid: str) -> Response:
    try:
        logout = logins_of(parts).providers.oidc(provider).logged_out_in_front(iss, sid)
    except LoginError as error:
        return HTMLResponse(error.why, 400, headers=_NO_STORE)
    await Ending(parts.service).logged_out(logout)
    where = urlsplit(logout.issuer)
    allowed = POLICY.replace("frame-ancestors 'none'", f"frame-ancestors {where.scheme}://{where.netloc}")
    return HTMLResponse("Logged out.", headers={**_NO_STORE, "Content-Security-Policy": allowed})
