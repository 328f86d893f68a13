"""The page before an HTTP service: log in, ask for access where there is none, and go on by itself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from broker.api import told
from broker.api.auth import P
from broker.api.parts import Parts
from broker.console.pages import render
from broker.console.routes import Csrf, Known, Visitor, forged, message, who
from broker.identity import browser_entries
from workflows.access import Wish
from workflows.model import GrantState, Refusal, RequestState, Resource, Story
from workflows.spans import read_span

router = APIRouter(include_in_schema=False)

Label = Annotated[str, Query(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
Challenge = Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{43}$")]
_NO_SERVICE = "There is no such service for you."
_AGAIN = 2
"""Seconds after which the page looks again."""


@router.get("/http/enter", response_model=None)
async def enter(
    parts: P,
    visitor: Known,
    resource: Label,
    challenge: Challenge,
    role: Annotated[str, Query(max_length=200)] = "",
    stay: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """On to the service under a live grant; else how to come by one. With `stay` it looks first: a form may
    not lead to another host (Content-Security-Policy, form-action).
    """
    found = _service(parts, visitor, resource)
    if found is None:
        return message(visitor, 404, "Not found", _NO_SERVICE, "Ask whoever keeps the access policy.")
    mine = [s for s in await parts.service.stories_of(visitor.person.id) if s.request.resource == found.name]
    now = parts.clock.now()
    live = [
        s for s in mine if s.grant and s.grant.principal == visitor.person.id and s.grant.live(now)
        and role in ("", s.request.role)
    ]  # fmt: skip
    ready = [s for s in live if s.grant and s.grant.state is GrantState.ACTIVE]
    if len({s.request.role for s in ready}) == 1 and not stay:
        return await _on(parts, max(ready, key=_until), resource, challenge)
    waiting = [
        s for s in mine if s.request.state is RequestState.PENDING and s.request.holder == visitor.person.id
    ]
    going = bool(ready) or len(live) > len(ready)
    where = urlencode({"resource": resource, "challenge": challenge})
    return render(
        "http_enter.html",
        service=found,
        ready=sorted(ready, key=lambda s: s.request.role) if not stay else [],
        waiting=[] if going else waiting,
        going=going,
        again=_AGAIN if (going and (stay or not ready)) or waiting else 0,
        address=f"/http/enter?{where}",
        resource=resource,
        challenge=challenge,
        roles=[it for it in found.roles if _may_ask(parts, visitor, found, it.name)],
        standing=lambda story: told.standing(story, now),
        wrong="",
        **who(visitor),
    )


@router.post("/http/ask", response_model=None)
async def ask(
    request: Request,
    parts: P,
    visitor: Known,
    resource: Annotated[str, Form(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")],
    challenge: Annotated[str, Form(pattern=r"^[A-Za-z0-9_-]{43}$")],
    role: Annotated[str, Form(max_length=200)] = "",
    span: Annotated[str, Form(max_length=40)] = "",
    reason: Annotated[str, Form(max_length=2000)] = "",
    csrf: Csrf = "",
) -> Response:
    """Ask for access: the same request as in chat."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    found = _service(parts, visitor, resource)
    if found is None:
        return message(visitor, 404, "Not found", _NO_SERVICE, "Ask whoever keeps the access policy.")
    duration = read_span(span.strip().lower()) if span.strip() else None
    made: Story | Refusal
    if span.strip() and duration is None:
        made = Refusal("bad-span", "That is not a span of time.", "Write it like 90m, 4h or 2d.")
    else:
        wish = Wish(found.name, role, duration, reason.strip())
        made = await parts.service.submit(visitor.person.id, wish, via="api")
    where = urlencode({"resource": resource, "challenge": challenge, "stay": "1"})
    if isinstance(made, Refusal):
        return message(visitor, 409, "Not asked", made.why, made.way_out)
    return RedirectResponse(f"/http/enter?{where}", 303)


def _service(parts: Parts, visitor: Visitor, label: str) -> Resource | None:
    """The service of this name, for those who may ask for it; of others nobody is told."""
    found = parts.service.policy.find(label)
    if found is None or found.kind != "http" or not parts.gate.http_port:
        return None
    known = {it.name for it in parts.service.requestable(visitor.person.id)}
    return found if found.name in known else None


def _may_ask(parts: Parts, visitor: Visitor, resource: Resource, role: str) -> bool:
    return any(
        rule.fits(visitor.person, resource.name) and role in rule.roles for rule in parts.service.policy.rules
    )


def _until(story: Story) -> float:
    return story.grant.expiry.timestamp() if story.grant else 0.0


async def _on(parts: Parts, story: Story, label: str, challenge: str) -> Response:
    """Back to the gate, to a host that this broker makes up from its own settings alone."""
    assert story.grant is not None
    code = await browser_entries.make(parts.keep, story.grant, challenge)
    return RedirectResponse(
        f"{parts.gate.http_address(label)}/.portcullis/enter?{urlencode({'code': code})}", 303
    )
