"""One's own account: which Slack account acts for me, my passkeys, and where I am logged in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from broker.api.auth import P
from broker.console.pages import render
from broker.console.routes import Csrf, Known, Visitor, forged, message, who
from broker.identity.devices import Devices
from broker.identity.links import Links
from broker.identity.passkeys import LOGIN_AGAIN, MAX_ANSWER, Passkeys
from workflows.model import Refusal

router = APIRouter(include_in_schema=False)

DeviceId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
KeyId = Annotated[str, Path(pattern=r"^K-[0-9A-Z]{4,12}$")]


@router.get("/account")
async def account(parts: P, visitor: Known) -> HTMLResponse:
    return await _page(parts, visitor)


@router.post("/account/unlink", response_model=None)
async def unlink(request: Request, parts: P, visitor: Known, csrf: Csrf = "") -> Response:
    """Take my link to a Slack account away."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    gone = await Links(parts.service).unlink(visitor.person.id, actor=visitor.person.id, via="api")
    if isinstance(gone, Refusal):
        return message(visitor, 409, "Not unlinked", gone.why, gone.way_out)
    return RedirectResponse("/account", 303)


# -------------------------------------------------------------- passkeys


@router.post("/account/passkeys", response_model=None)
async def register(
    request: Request,
    parts: P,
    visitor: Known,
    csrf: Csrf = "",
    challenge: Annotated[str, Form(max_length=100)] = "",
    answer: Annotated[str, Form(max_length=MAX_ANSWER)] = "",
    name: Annotated[str, Form(max_length=80)] = "",
) -> Response:
    """Keep the passkey that this browser made."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    keys = Passkeys(parts.service)
    made = await keys.register(visitor.person, visitor.session, challenge, answer, name)
    return await _after(parts, visitor, made if isinstance(made, Refusal) else None)


@router.post("/account/passkeys/{key}/remove", response_model=None)
async def remove(key: KeyId, request: Request, parts: P, visitor: Known, csrf: Csrf = "") -> Response:
    """Take one of my passkeys out."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    return await _after(
        parts, visitor, await Passkeys(parts.service).remove(visitor.person, visitor.session, key)
    )


@router.post("/account/devices/{device}/end", response_model=None)
async def end_device(
    device: DeviceId, request: Request, parts: P, visitor: Known, csrf: Csrf = ""
) -> Response:
    """End one of my logins, this one too."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    known = Devices(parts.service.store, parts.clock)
    await known.end(visitor.person.id, actor=visitor.person.id, via="api", device=device)
    return RedirectResponse("/account#devices", 303)


async def _after(parts: P, visitor: Visitor, refusal: Refusal | None) -> Response:
    if refusal is None:
        return RedirectResponse("/account#passkeys", 303)
    if refusal.code == LOGIN_AGAIN.code:
        return message(visitor, 403, "Not changed", refusal.why, "Go to the front page, log out and in.")
    return await _page(parts, visitor, refusal)


async def _page(parts: P, visitor: Visitor, wrong: Refusal | None = None) -> HTMLResponse:
    service, me, keys = parts.service, visitor.person, Passkeys(parts.service)
    asked = await keys.begin_registration(me, visitor.session)
    return render(
        "account.html",
        409 if wrong else 200,
        named=service.config.directory.slack_user(me.id),
        link=await service.slack_link(me.id),
        keys=await keys.of(me.id),
        asked=None if isinstance(asked, Refusal) else asked,
        not_now=asked if isinstance(asked, Refusal) else None,
        old=isinstance(asked, Refusal) and asked.code == LOGIN_AGAIN.code,
        wrong=wrong,
        devices=await Devices(service.store, parts.clock).of(me.id),
        **who(visitor),
    )
