"""Ask, decide, end: the structured form of the chat's verbs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path

from broker.api.auth import Once, P, Person
from broker.api.models import DecisionIn, EmptyIn, RequestIn, StoryOut
from broker.api.problems import documented, refused
from workflows.access import Wish
from workflows.model import Refusal, Story

router = APIRouter(
    prefix="/api/v1/requests", tags=["requests"], responses=documented(400, 401, 403, 404, 409, 422)
)

Key = Annotated[
    str,
    Path(pattern=r"^[RG]-[0-9A-Z]{4,26}$", description="A request id (R-…), or the id of its grant (G-…)."),
]


def told(outcome: Story | Refusal) -> StoryOut:
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return StoryOut.of(outcome)


@router.post("", status_code=201)
async def submit(wish: RequestIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Ask for access."""
    span = timedelta(seconds=wish.seconds) if wish.seconds is not None else None
    asked = Wish(wish.resource, wish.role, span, wish.reason, wish.starts_at, wish.beneficiary)
    return told(await parts.service.submit(person.id, asked, via="api", dedupe=once))


@router.get("/{key}")
async def read(key: Key, person: Person, parts: P) -> StoryOut:
    """One story, for its requester, whoever may decide it, and administrators."""
    return told(await parts.service.story_for(key, person.id))


@router.post("/{key}/approve")
async def approve(key: Key, said: DecisionIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say yes. The answer's state says whether that was the yes that completed the quorum."""
    return told(await parts.service.approve(key, person.id, via="api", reason=said.reason, dedupe=once))


@router.post("/{key}/deny")
async def deny(key: Key, said: DecisionIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Say no."""
    return told(await parts.service.deny(key, person.id, via="api", reason=said.reason, dedupe=once))


@router.post("/{key}/cancel")
async def cancel(key: Key, _said: EmptyIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Take one's own request back, or refuse what somebody else asked for one."""
    return told(await parts.service.cancel(key, person.id, via="api", dedupe=once))


@router.post("/{key}/release")
async def release(key: Key, _said: EmptyIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """Give one's own grant back early."""
    return told(await parts.service.release(key, person.id, via="api", dedupe=once))


@router.post("/{key}/revoke")
async def revoke(key: Key, said: DecisionIn, person: Person, parts: P, once: Once = None) -> StoryOut:
    """End a grant now, as an approver of it or an administrator."""
    return told(await parts.service.revoke(key, person.id, via="api", reason=said.reason, dedupe=once))
