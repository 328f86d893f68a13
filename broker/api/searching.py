"""Statements that were sent, looked for over the recordings that the caller may see."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from broker.api.auth import P, Person, Way
from broker.api.models import StatementOut
from broker.api.problems import documented, refused
from broker.searching import Hit, Search, Searching
from workflows.model import Refusal, StatementClass

router = APIRouter(prefix="/api/v1", tags=["statements"], responses=documented(401, 403, 409, 422))


def _no_number(value: object) -> object:
    """A bare number would be read as seconds since 1970."""
    if isinstance(value, str) and "T" not in value.upper():
        raise ValueError("an instant of RFC 3339 is needed")
    return value


_Instant = Annotated[AwareDatetime, BeforeValidator(_no_number)]
_Filter = Annotated[str, Query(max_length=200)]


class HitOut(BaseModel):
    """A statement that was sent through the gate, as it was recorded: what is masked is masked here."""

    session_id: str
    grant_id: str
    request_id: str
    principal: str
    resource: str
    role: str
    began_at: datetime
    statement: StatementOut

    @staticmethod
    def of(it: Hit) -> HitOut:
        record = it.session
        return HitOut(
            session_id=record.id,
            grant_id=record.grant_id,
            request_id=record.request_id,
            principal=record.principal,
            resource=record.resource,
            role=record.role,
            began_at=it.at,
            statement=StatementOut(**asdict(it.statement)),
        )


class BrokenOut(BaseModel):
    session_id: str
    problem: str


class PageOut(BaseModel):
    """By session, the newest first, and in each the newest statement first."""

    statements: list[HitOut]
    searched: int = Field(description="Recordings that were looked at for this page.")
    missing: list[str] = Field(description="Sessions whose recording is not on this broker's disk.")
    broken: list[BrokenOut] = Field(description="Sessions whose recording is not as the gate wrote it.")
    place: str = Field(description="Where to go on; empty at the end. A page may be empty and not the last.")


@router.get("/statements/search")
async def search_statements(
    person: Person,
    parts: P,
    via: Way,
    by: Annotated[str, Query(max_length=200, description="Whose: a principal.")] = "",
    on: Annotated[str, Query(max_length=200, description="Where: a resource or its alias.")] = "",
    like: Annotated[
        str, Query(max_length=500, description="A part of the text; the case of A to Z does not matter.")
    ] = "",
    since: Annotated[_Instant | None, Query(description="Begun at this instant or later.")] = None,
    until: Annotated[_Instant | None, Query(description="Begun before this instant.")] = None,
    refused_only: Annotated[bool, Query(alias="refused", description="Only what was refused.")] = False,
    class_: Annotated[
        StatementClass | None, Query(alias="class", description="As the gate classed it, where it did.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    place: _Filter = "",
) -> PageOut:
    """Statements in sessions I may see: my own, those of grants I decide on, all for administrators. That I
    looked, and for what, is noted.
    """
    wish = Search(by, on, like, since, until, refused_only, class_ or "", limit, place)
    found = await Searching(parts.service, parts.recordings).search(person.id, wish, via=via)
    if isinstance(found, Refusal):
        raise refused(found)
    return PageOut(
        statements=[HitOut.of(hit) for hit in found.hits],
        searched=found.searched,
        missing=found.missing,
        broken=[BrokenOut(session_id=key, problem=what) for key, what in found.broken.items()],
        place=found.place,
    )
