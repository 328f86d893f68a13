"""What may be read: me, resources, sessions and recordings, explanations, the trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from broker import audit
from broker.api.auth import P, Person
from broker.api.models import (
    AccountOut,
    ExplanationOut,
    GateOut,
    MeOut,
    PrincipalOut,
    RecordingOut,
    ResourceOut,
    SessionOut,
    SlackOut,
    StatementOut,
    StoryOut,
)
from broker.api.parts import Parts
from broker.api.problems import documented, refused
from broker.codec import encode
from broker.identity.people import known_of
from broker.reading import NOT_AN_AUDITOR
from broker.store import identities
from broker.store.sessions import SessionRecord
from broker.store.tables import audit_checkpoints
from broker.trail import Checkpoint
from workflows.model import Principal, Refusal

T = TypeVar("T")
router = APIRouter(prefix="/api/v1", tags=["reading"], responses=documented(401, 422))

_Name = Annotated[str, Path(min_length=1, max_length=200)]
_Filter = Annotated[str, Query(max_length=200)]


@router.get("/me")
async def me(person: Person, parts: P) -> MeOut:
    """Who I am, what I hold, what waits for me."""
    mine = await parts.service.stories_of(person.id)
    waiting = await parts.service.waiting_for(person.id)
    now = parts.clock.now()
    return MeOut(
        principal=PrincipalOut.of(person, admin=parts.service.is_admin(person.id)),
        grants=[StoryOut.of(s) for s in mine if s.grant and s.grant.live(now)],
        waiting_for_me=[StoryOut.of(s) for s in waiting],
        extensions_for_me=[StoryOut.of(s) for s in await parts.service.extensions_for(person.id)],
        reviews_for_me=[StoryOut.of(s) for s in await parts.service.reviews_owed(person.id)],
        requests=[StoryOut.of(s) for s in mine],
        slack=await _slack(parts, person),
        account=await _account(parts, person),
    )


async def _account(parts: Parts, person: Principal) -> AccountOut | None:
    config = parts.service.config
    async with parts.service.store.read() as tx:
        bound = await identities.of_principal(tx, person.id)
    if bound is None:
        return None
    named = config.providers.get(bound.provider)
    known = known_of(config, person.id)
    until = bound.groups_at + known.source.max_age if known and bound.groups_at else None
    return AccountOut(
        provider=named.title if named else bound.provider, since=bound.bound_at, groups_until=until
    )


async def _slack(parts: Parts, person: Principal) -> SlackOut | None:
    if named := parts.service.config.directory.slack_user(person.id):
        return SlackOut(user=named, how="policy")
    if (link := await parts.service.slack_link(person.id)) is None:
        return None
    how: Literal["login", "email"] = "email" if link.how == "email" else "login"
    return SlackOut(user=link.slack_user, how=how, team=link.team, since=link.linked_at)


@router.get("/resources")
async def resources(person: Person, parts: P) -> list[ResourceOut]:
    """What I may ask for, and as which roles."""
    rules = [rule for rule in parts.service.policy.rules if not rule.who.isdisjoint(person.groups)]
    return [
        ResourceOut.of(r, [name for rule in rules if r.name in rule.resources for name in rule.roles])
        for r in parts.service.requestable(person.id)
    ]


@router.get("/resources/{name}/who", responses=documented(403, 404, 409))
async def who(name: _Name, person: Person, parts: P) -> list[StoryOut]:
    """Whose grants on a resource are live."""
    found = await parts.service.who(name, person.id)
    if isinstance(found, Refusal):
        raise refused(found)
    return [StoryOut.of(story) for story in found]


@router.get("/sessions")
async def sessions(
    person: Person,
    parts: P,
    resource: _Filter = "",
    key: _Filter = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[SessionOut]:
    """Sessions I may see, newest first: my own, those of grants I decide on, all for administrators."""
    found = await parts.service.sessions(person.id, resource=resource, key=key, limit=limit)
    return [SessionOut.of(record) for record in found]


@router.get("/sessions/{session_id}", responses=documented(404))
async def session(session_id: _Name, person: Person, parts: P) -> SessionOut:
    """One session."""
    found = await parts.service.session(session_id, person.id)
    if isinstance(found, Refusal):
        raise refused(found)
    return SessionOut.of(found)


@router.get("/sessions/{session_id}/recording", responses=documented(404, 409))
async def recording(session_id: _Name, person: Person, parts: P) -> RecordingOut:
    """What was done in a session, verified against its chain and the trail. That it was read is noted."""
    record, view = await _read(session_id, person, parts, parts.recordings.read)
    return RecordingOut(
        session=SessionOut.of(record),
        whole=view.whole,
        statements=[StatementOut(**asdict(statement)) for statement in view.statements],
        lines=list(view.lines),
        casts=list(view.casts),
    )


@router.get("/sessions/{session_id}/har", responses=documented(404, 409))
async def archive(session_id: _Name, person: Person, parts: P) -> dict[str, Any]:
    """The HTTP requests of a session as an HTTP Archive (HAR 1.2), verified as its recording is. That it was
    read is noted.
    """
    return (await _read(session_id, person, parts, parts.recordings.har))[1]


async def _read(
    session_id: str, person: Principal, parts: Parts, reader: Callable[[str, str], T]
) -> tuple[SessionRecord, T]:
    record = await parts.service.session(session_id, person.id)
    if isinstance(record, Refusal):
        raise refused(record)
    try:
        found = await asyncio.to_thread(reader, record.id, record.head)
    except LookupError:
        raise refused(
            Refusal("no-such-recording", "The recording is not on this broker's disk.", "Ask its gate.")
        ) from None
    except ValueError as error:
        raise refused(
            Refusal("recording-changed", f"The recording does not hold: {error}", "Tell security.")
        ) from None
    await parts.service.note("recording.read", record.id, {}, actor=person.id, via="api")
    return record, found


@router.get("/gate")
async def gate(_person: Person, parts: P) -> GateOut:
    """Where the gate is, and the CA that proves it."""
    return GateOut(**asdict(parts.gate))


@router.get("/explain", responses=documented(403, 404, 409))
async def explain(
    person: Person,
    parts: P,
    resource: Annotated[str, Query(min_length=1, max_length=200)],
    principal: Annotated[str, Query(max_length=200, description="Nothing means oneself.")] = "",
) -> ExplanationOut:
    """Rule by rule, why somebody may or may not have a resource: oneself, or for administrators and auditors
    anybody."""
    about = principal or person.id
    if refusal := _may_explain(parts, person, about, resource):
        raise refused(refusal)
    return ExplanationOut(
        principal=about, resource=resource, lines=list(parts.service.explain(about, resource))
    )


def _may_explain(parts: Parts, person: Principal, about: str, resource: str) -> Refusal | None:
    if parts.service.reads_all(person.id):
        return None
    if about != person.id:
        why = "Only administrators and auditors see how the rules treat somebody else."
        return Refusal("not-an-admin", why)
    route = parts.service.route(person.id, resource)
    return route if isinstance(route, Refusal) else None


@router.get(
    "/audit/export",
    response_class=StreamingResponse,
    responses={
        **documented(403),
        200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
    },
)
async def audit_export(person: Person, parts: P) -> StreamingResponse:
    """The whole trail as lines of JSON, oldest first, then its signed checkpoints; for administrators and
    auditors."""
    if not parts.service.reads_all(person.id):
        raise refused(NOT_AN_AUDITOR)
    await parts.service.note("audit.exported", person.id, {}, actor=person.id, via="api")
    return StreamingResponse(_lines(parts), media_type="application/x-ndjson")


async def _lines(parts: Parts) -> AsyncIterator[str]:
    """As broker.trail.export writes it: entries, then the checkpoints that sign them."""
    async with parts.service.store.read() as tx:
        rows = await tx.execute(select(audit_checkpoints).order_by(audit_checkpoints.c.seq))
        checkpoints = [Checkpoint(*row) for row in rows]
        async for entry in audit.all_entries(tx):
            yield encode({"entry": entry}) + "\n"
    for checkpoint in checkpoints:
        yield encode({"checkpoint": checkpoint}) + "\n"
