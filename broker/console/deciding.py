"""The page of a decision that needs a passkey: it shows what is decided, and a signature decides it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse

from broker.api.auth import P
from broker.api.told import headline
from broker.console.pages import render
from broker.console.routes import Csrf, Known, Visitor, forged, message, who
from broker.identity.passkeys import CHANGED, MAX_ANSWER, NO_PASSKEY
from broker.identity.step_up import OVER, StepUps
from workflows.model import Refusal, Story

router = APIRouter(include_in_schema=False)

Secret = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,100}$")]


@router.get("/decide/{secret}")
async def look(secret: Secret, parts: P, visitor: Known) -> HTMLResponse:
    """What would be decided, for whoever tried to."""
    return await _page(secret, parts, visitor)


@router.post("/decide/{secret}")
async def decide(
    secret: Secret,
    request: Request,
    parts: P,
    visitor: Known,
    csrf: Csrf = "",
    challenge: Annotated[str, Form(max_length=100)] = "",
    answer: Annotated[str, Form(max_length=MAX_ANSWER)] = "",
) -> HTMLResponse:
    """Make the decision that the passkey signed."""
    if not visitor.accepts(request, csrf):
        return forged(visitor)
    steps = StepUps(parts.service)
    done = await steps.decide(secret, challenge, answer, visitor.session, visitor.person)
    if isinstance(done, Refusal):
        if done.code in {CHANGED.code, "not-proven"}:
            return await _page(secret, parts, visitor, done)
        return _no(visitor, done)
    said = headline(done, parts.clock.now()) if isinstance(done, Story) else f"{done.id} is {done.state}."
    return message(visitor, 200, "Decided", said, "You can close this page; the card in Slack follows.")


async def _page(secret: str, parts: P, visitor: Visitor, wrong: Refusal | None = None) -> HTMLResponse:
    steps = StepUps(parts.service)
    found = await steps.look(secret, visitor.person)
    if isinstance(found, Refusal):
        return _no(visitor, found)
    asked = await steps.begin(secret, visitor.session, visitor.person)
    status = 409 if wrong else 200
    if isinstance(asked, Refusal) and asked.code != NO_PASSKEY.code:
        return _no(visitor, asked)
    return render(
        "decide.html",
        status,
        it=found[1],
        asked=None if isinstance(asked, Refusal) else asked,
        secret=secret,
        wrong=wrong,
        **who(visitor),
    )


def _no(visitor: Visitor, refusal: Refusal) -> HTMLResponse:
    status = 404 if refusal.code == OVER.code else 409
    return message(visitor, status, "Not decided", refusal.why, refusal.way_out)
