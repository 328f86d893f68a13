"""Sessions while they are open: end one by itself, watch what is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from broker.api.auth import P, Person, Way
from broker.api.models import DecisionIn, SessionOut
from broker.api.parts import Parts
from broker.api.problems import documented, refused
from broker.api.searching import HitOut
from broker.identity import tokens
from broker.identity.tokens import login_kind
from broker.searching import Hit
from broker.sessions import Sessions
from broker.watching import Event, Joined, Left, Over, Said, Shown, Watching
from workflows.model import Refusal

router = APIRouter(
    prefix="/api/v1/sessions", tags=["sessions"], responses=documented(400, 401, 403, 404, 409, 422)
)

Key = Annotated[str, Path(pattern=r"^S-[0-9A-Z]{1,26}$", description="The id of a session (S-…).")]


@router.post("/{key}/kill")
async def kill_session(
    key: Key,
    said: DecisionIn,
    person: Person,
    parts: P,
    via: Way,
) -> SessionOut:
    """Cut this one session within a second; its grant stays. Its owner may, whoever may decide on its grant,
    and administrators.
    """
    found = await Sessions(parts.service).kill(key, person.id, via=via, reason=said.reason)
    if isinstance(found, Refusal):
        raise refused(found)
    return SessionOut.of(found)


class LeftOut(BaseModel):
    session_id: str
    how: str


class ShownOut(BaseModel):
    """What a channel on a host shows. `event` is begin (with what it runs), o (output), e (standard error),
    i (input), r (the terminal's size), p (how much has passed) or x (the exit).
    """

    session_id: str
    channel: int
    at: datetime
    event: str
    text: str


class WatchOut(BaseModel):
    """One line of a watch; an empty one says that nothing happened."""

    joined: Annotated[SessionOut | None, Field(description="From now on this session is watched.")] = None
    left_out: Annotated[int | None, Field(description="So many more are open and are not watched.")] = None
    statement: HitOut | None = None
    shown: ShownOut | None = None
    left: Annotated[LeftOut | None, Field(description="How the session ended, or why it is not shown.")] = (
        None
    )
    over: Annotated[str | None, Field(description="Why nothing more comes.")] = None

    @staticmethod
    def of(event: Event) -> WatchOut:
        match event:
            case Joined(session, left_out):
                return WatchOut(joined=SessionOut.of(session), left_out=left_out or None)
            case Said(session, at, statement):
                return WatchOut(statement=HitOut.of(Hit(session, at, statement)))
            case Shown(session, at, screen):
                it = ShownOut(
                    session_id=session.id, channel=screen.channel, at=at, event=screen.event, text=screen.text
                )
                return WatchOut(shown=it)
            case Left(session, how):
                return WatchOut(left=LeftOut(session_id=session.id, how=how))
            case Over(why):
                return WatchOut(over=why)
        return WatchOut()


_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines of JSON: `joined` (a session), `statement`, `shown` (on a host), `left` (how "
        "it ended), `over`; an empty object every second without any of them.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


@router.get("/{key}/watch", response_class=StreamingResponse, responses=_LINES)
async def watch_session(
    key: Key,
    person: Person,
    parts: P,
    via: Way,
    request: Request,
    from_start: Annotated[bool, Query(description="Also what was done before.")] = False,
) -> StreamingResponse:
    """Statements as they are recorded, one JSON object a line, until the session ends or my right to see it.
    That I watch is noted.
    """
    watching: Watching = request.app.state.watching
    still = _still(request, parts)
    found = await watching.one(key, person.id, still, from_start=from_start, via=via)
    return _stream(found)


@router.get("/watch", response_class=StreamingResponse, responses=_LINES)
async def watch_sessions(
    person: Person,
    parts: P,
    via: Way,
    request: Request,
    on: Annotated[str, Query(min_length=1, max_length=200, description="A resource or its alias.")],
) -> StreamingResponse:
    """The same for all sessions on a resource that I may see, and those that come."""
    watching: Watching = request.app.state.watching
    return _stream(await watching.all_on(on, person.id, _still(request, parts), via=via))


def _stream(found: AsyncIterator[Event] | Refusal) -> StreamingResponse:
    if isinstance(found, Refusal):
        raise refused(found)
    return StreamingResponse(_lines(found), media_type="application/x-ndjson")


async def _lines(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    async for event in events:
        yield WatchOut.of(event).model_dump_json(exclude_none=True) + "\n"


def _still(request: Request, parts: Parts) -> Callable[[], Awaitable[bool]]:
    """Whether the login that the watch began with still holds; watching does not make it last longer."""
    token = request.headers.get("authorization", "").partition(" ")[2]

    async def still() -> bool:
        async with parts.service.store.read() as tx:
            return await tokens.find(tx, login_kind(token), token, parts.clock.now()) is not None

    return still
