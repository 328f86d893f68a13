"""The pages: where one stands, how to enter under a grant, and the confirmation of a command line's code."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from broker.api import told
from broker.api.auth import P
from broker.api.login import cookie_name, logins_of
from broker.api.parts import Parts
from broker.console.pages import render, script, stylesheet
from broker.identity.device_codes import tidy_code
from broker.identity.tokens import TokenKind, device_of
from broker.identity.web import WebSession, own_page
from workflows.model import Principal, Story

router = APIRouter(include_in_schema=False)

_WEEK = {"Cache-Control": "public, max-age=604800"}


class LoginFirst(Exception):
    """This page needs somebody who is logged in."""


class Visitor:
    """The person behind a browser, and the session whose forms count."""

    def __init__(self, person: Principal, session: WebSession) -> None:
        self.person = person
        self.session = session

    def accepts(self, request: Request, csrf: str) -> bool:
        """Whether a form was sent by a page of ours in this session."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        return site in {"same-origin", "none"} and self.session.accepts(csrf)


async def _visitor_or_none(request: Request, parts: P) -> Visitor | None:
    session = await parts.web.check(request.cookies.get(cookie_name(parts), ""))
    if session:
        await parts.service.fresh()
    person = parts.service.principal(session.principal) if session else None
    if session is None or person is None or not person.active:
        return None
    return Visitor(person, session) if await parts.service.stands(person.id) else None


Maybe = Annotated[Visitor | None, Depends(_visitor_or_none)]


async def _visitor(visitor: Maybe) -> Visitor:
    if visitor is None:
        raise LoginFirst
    return visitor


Known = Annotated[Visitor, Depends(_visitor)]
Csrf = Annotated[str, Form(max_length=100)]


async def login_first(request: Request, _error: Exception) -> Response:
    """The handler of LoginFirst: by way of the identity provider back to this page."""
    page = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET":
        return message(None, 403, "Your session is over", "Nothing was done.", "Log in and do it again.")
    return RedirectResponse("/login?" + urlencode({"next": own_page(page)}), 303)


def message(visitor: Visitor | None, status: int, title: str, why: str, way_out: str) -> HTMLResponse:
    return render("message.html", status, title=title, why=why, way_out=way_out, **who(visitor))


def who(visitor: Visitor | None) -> dict[str, object]:
    """What every page is given about its visitor."""
    return {"person": visitor.person, "csrf": visitor.session.csrf} if visitor else {}


def forged(visitor: Visitor) -> HTMLResponse:
    """The answer to a form that no page of this session sent."""
    return message(
        visitor, 403, "Not done", "That form did not come from this session.", "Open the page anew."
    )


@router.get("/static/console.css")
async def css() -> Response:
    return Response(stylesheet(), media_type="text/css", headers=_WEEK)


@router.get("/static/console.js")
async def js() -> Response:
    return Response(script(), media_type="text/javascript", headers=_WEEK)


@router.get("/static/passkey.js")
async def passkey_js() -> Response:
    return Response(script("passkey.js"), media_type="text/javascript", headers=_WEEK)


@router.get("/gate-ca.pem")
async def gate_ca(parts: P) -> Response:
    """The gate's certificate authority: public, so that psql can verify the gate."""
    return Response(parts.gate.ca, media_type="application/x-pem-file")


@router.get("/")
async def home(parts: P, visitor: Maybe) -> HTMLResponse:
    if visitor is None:
        return render("welcome.html")
    mine = await parts.service.stories_of(visitor.person.id)
    now = parts.clock.now()
    return render(
        "home.html",
        live=[s for s in mine if s.grant and s.grant.live(now)],
        waiting=await parts.service.waiting_for(visitor.person.id),
        others=[s for s in mine if not (s.grant and s.grant.live(now))][:10],
        resources=parts.service.requestable(visitor.person.id),
        standing=lambda story: told.standing(story, now),
        **who(visitor),
    )


@router.post("/logout")
async def logout(request: Request, parts: P, visitor: Known, csrf: Csrf = "") -> Response:
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    await parts.web.close(visitor.session.secret)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(cookie_name(parts), path="/", secure=parts.secure, httponly=True, samesite="lax")
    return answer


# ------------------------------------------------------------ entering


@router.get("/enter/{grant_id}")
async def enter(grant_id: str, parts: P, visitor: Known) -> HTMLResponse:
    """How to enter under a grant; only for its holder."""
    story = await _held(parts, grant_id, visitor.person)
    if isinstance(story, str):
        return message(visitor, 404, "Nothing to enter", story, "See what you hold on the front page.")
    return render("enter.html", **_entering(parts, story), line="", **who(visitor))


@router.post("/enter/{grant_id}")
async def reveal(grant_id: str, request: Request, parts: P, visitor: Known, csrf: Csrf = "") -> HTMLResponse:
    """Make a password for the gate and show it, this once."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    story = await _held(parts, grant_id, visitor.person)
    if isinstance(story, str):
        return message(visitor, 404, "Nothing to enter", story, "See what you hold on the front page.")
    assert story.grant is not None
    left = min(timedelta(minutes=10), story.grant.expiry - parts.clock.now())
    issued = await parts.tokens.issue(
        TokenKind.ENTRY,
        visitor.person.id,
        via="api",
        label=story.grant.id,
        lifetime=left,
        device=device_of(visitor.session.secret),
    )
    line = _psql_line(parts, story, visitor.person, issued.token)
    return render(
        "enter.html",
        **_entering(parts, story),
        line=line,
        until=told.clock(issued.expires_at),
        **who(visitor),
    )


async def _held(parts: Parts, grant_id: str, person: Principal) -> Story | str:
    """This person's story with a live grant of this id, or why not. Another's grant is as one that is not."""
    story = await parts.service.story(grant_id)
    grant = story.grant if story else None
    if story is None or grant is None or grant.principal != person.id or not _same(grant.id, grant_id):
        return "There is no such grant of yours."
    if not grant.live(parts.clock.now()):
        return f"{grant.id} has ended: {told.standing(story, parts.clock.now())}."
    return story


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _entering(parts: Parts, story: Story) -> dict[str, object]:
    return {
        "story": story,
        "grant": story.grant,
        "standing": told.standing(story, parts.clock.now()),
        "gate": parts.gate,
        "address": _address(parts, story),
    }


def _address(parts: Parts, story: Story) -> str:
    """Where a browser reaches it, if it is an HTTP service."""
    found = parts.service.policy.find(story.request.resource)
    return parts.gate.address_of(found) if found is not None and found.kind == "http" else ""


def _psql_line(parts: Parts, story: Story, person: Principal, token: str) -> str:
    where = f"host={parts.gate.host} port={parts.gate.port} dbname={story.request.resource}"
    login = f"user={person.id}/{story.request.role} sslmode=verify-full sslrootcert=portcullis-ca.pem"
    fetch = f"curl -fsSo portcullis-ca.pem {parts.public_url}/gate-ca.pem"
    return f"{fetch} && \\\nPGPASSWORD={token} psql '{where} {login}'"


# ----------------------------------------- a command line without a browser


@router.get("/device")
async def device(parts: P, visitor: Known, code: str = "") -> HTMLResponse:
    """Confirm the short code that a command line shows."""
    waits = await logins_of(parts).devices.waits(code) if code else None
    shown = tidy_code(code) if waits is not None else ""
    return render(
        "device.html", code=shown, what=waits or "", unknown=bool(code) and waits is None, **who(visitor)
    )


@router.post("/device")
async def decide_device(
    request: Request,
    parts: P,
    visitor: Known,
    csrf: Csrf = "",
    code: Annotated[str, Form(max_length=40)] = "",
    say: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    if say not in {"yes", "no"}:
        return RedirectResponse(f"/device?code={tidy_code(code)}", 303)
    done = await logins_of(parts).devices.decide(
        code, visitor.person, yes=say == "yes", origin=visitor.session.origin
    )
    if not done:
        return message(
            visitor, 409, "Nothing waits", "No command line waits for that code.", "Start again there."
        )
    if say == "no":
        return message(visitor, 200, "Turned down", "That command line was not logged in.", "")
    return message(
        visitor,
        200,
        "Logged in",
        f"The command line is logged in as {visitor.person.id}.",
        "You can close this page.",
    )
