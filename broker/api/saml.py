"""Logging in by SAML over HTTP: where identity providers send their answers, and what they are told about
us.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from broker.api.auth import P
from broker.api.login import ProviderName, came_back, let_in, logins_of, refused
from broker.api.problems import Problem
from broker.identity.answer import LoginError
from workflows.model import Refusal

router = APIRouter(prefix="/auth/saml/{provider}", tags=["login"], include_in_schema=False)

Secret = Annotated[str, Query(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
MOST = 350_000
"""Characters of an answer in base 64."""


@router.get("/metadata")
async def metadata(provider: ProviderName, parts: P) -> Response:
    """What the identity provider is to know about us."""
    try:
        document = logins_of(parts).providers.saml(provider).metadata()
    except LoginError as error:
        raise Problem(404, Refusal("no-provider", error.why, error.way_out)) from None
    return Response(document, media_type="application/samlmetadata+xml")


@router.post("/acs", response_model=None)
async def acs(
    provider: ProviderName,
    request: Request,
    parts: P,
    response: Annotated[str, Form(alias="SAMLResponse", max_length=MOST)],
) -> Response:
    """The identity provider's answer, brought by the browser. It is verified here; its browser picks it up
    with the cookie that it began with, which a POST from another site does not bring.
    """
    try:
        secret, asked = await logins_of(parts).providers.saml(provider).accept(response)
        if not asked:
            came = await logins_of(parts).unsolicited(provider, secret)
            return await let_in(request, parts, came)
    except LoginError as error:
        return await refused(parts, error)
    return RedirectResponse(f"/auth/saml/{provider}/finish?{urlencode({'answer': secret})}", 303)


@router.get("/finish", response_model=None)
async def finish(provider: ProviderName, request: Request, parts: P, answer: Secret) -> Response:
    return await came_back(request, parts, provider, {"answer": answer})
