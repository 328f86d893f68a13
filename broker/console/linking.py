"""The page behind the link that a Slack account was shown: log in, look, and say whether it is yours."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from broker.api.auth import P
from broker.console.pages import render
from broker.console.routes import Csrf, Known, Maybe, forged, message, who
from broker.identity.links import OVER, Links
from workflows.model import Refusal

router = APIRouter(include_in_schema=False)

Secret = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,100}$")]


@router.get("/link/{secret}", response_model=None)
async def link(secret: Secret, parts: P, visitor: Maybe) -> Response:
    """Look at who would be linked to whom. Slack's own look at the address uses nothing up."""
    links = Links(parts.service)
    if visitor is None:
        if await links.waits(secret):
            return _log_in(secret)
        return _no(None, OVER)
    offer = await links.open(secret, visitor.session)
    if offer is None:
        return _log_in(secret)
    if isinstance(offer, Refusal):
        return _no(visitor, offer)
    if refusal := await links.refusal(offer, visitor.person):
        return _no(visitor, refusal)
    return render("link.html", it=offer.account, line=offer.line, secret=secret, **who(visitor))


@router.post("/link/{secret}")
async def confirm(
    secret: Secret,
    request: Request,
    parts: P,
    visitor: Known,
    csrf: Csrf = "",
    say: Annotated[str, Form(max_length=10)] = "",
) -> HTMLResponse:
    """“Yes, that is my account”, or no."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    links = Links(parts.service)
    if say != "yes":
        refusal = await links.decline(secret, visitor.session)
        if refusal:
            return _no(visitor, refusal)
        return message(visitor, 200, "Not linked", "That Slack account was not linked to you.", "")
    made = await links.confirm(secret, visitor.session, visitor.person)
    if isinstance(made, Refusal):
        return _no(visitor, made)
    return message(
        visitor,
        200,
        "Linked",
        f"The Slack account {made.slack_user} acts for {visitor.person.id} from now on.",
        "Go back to Slack: what you typed waits for you in the direct messages of the app.",
    )


def _log_in(secret: str) -> RedirectResponse:
    """A login of now: one that somebody left in this browser, or planted there, does not count."""
    return RedirectResponse("/login?" + urlencode({"next": f"/link/{secret}"}), 303)


def _no(visitor: Maybe, refusal: Refusal) -> HTMLResponse:
    status = 404 if refusal.code == OVER.code else 409
    return message(visitor, status, "Not linked", refusal.why, refusal.way_out)
